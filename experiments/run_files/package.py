"""A run in one file: what another person needs to use it, to judge it and to repeat it."""

import hashlib
import io
import json
import re
import shlex
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from safetensors import SafetensorError, deserialize

from datasets.errors import UsageError, file_errors, nearest
from datasets.files import replaced, write_whole
from experiments.config import read_yaml, write_yaml
from experiments.run_files.folder import RunFile

MANIFEST_NAME = "MANIFEST.json"
FORMAT, VERSION = "scanfire package", 1

# In the order in which they are packed.
REQUIRED = (
    RunFile.CARD,
    RunFile.SUMMARY,
    RunFile.CONFIG,
    RunFile.ENVIRONMENT,
    RunFile.SPLITS,
    "metrics.csv",
    RunFile.METRICS,
    RunFile.PREDICTIONS,
    RunFile.PREPROCESSING,
    RunFile.WEIGHTS,
)
# Only where the run made them.
OPTIONAL = (
    RunFile.RESOLVED,
    RunFile.AUDIT,
    "report/training_curves.html",
    RunFile.VAL_PREDICTIONS,
    *RunFile.BASELINE_PREDICTIONS.values(),
    RunFile.BASELINES,
)
# A larger file of baselines (trees grow with the cohort) stays in the run's folder.
MOST_BASELINES_BYTES = 8 * 2**20

# The earliest time that a zip archive can name: the same run gives the same bytes at any time.
NO_TIME = (1980, 1, 1, 0, 0, 0)
UNIX, READABLE = 3, 0o100644
# Tensors of trained weights hardly get smaller, whatever is done to them. The baselines, a zip, are
# compressed all the same: the end of that zip must not pass for that of a package cut off.
STORED = (".safetensors", ".pt")
PIECE_BYTES = 2**20
# A requirement's, an option's or an address's beginning, then a path from the machine's root.
PLACED = re.compile(
    r"((?:-e |[\w.-]+ @ )?(?:[\w.+-]+=)?(?:file:|sqlite:///)?)(/.*|[A-Za-z]:[/\\].*|\\\\.*)",
    re.DOTALL,
)
# Settings that are names of columns, whatever they look like.
COLUMNS = ("label", "labels", "group", "numeric", "categorical", "log")

# What unpacking an entry whose bytes, or whose description, were changed can raise.
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    RuntimeError,  # marked as encrypted, or (NotImplementedError) as packed in an unknown way
)


# What the manifest says of a file: ``sha256`` in hexadecimal digits, ``size`` in bytes.
PackedFile = dict[str, Any]


def write_package(run_dir: Path, name: str) -> Path:
    """Write ``<name>.zip``: the exported files of a run and a manifest of their checksums.

    It is written aside, read back, then renamed, so that it is complete or absent. The same files
    give the same bytes. Absolute paths keep the last name.
    """
    for required in REQUIRED:
        if not (run_dir / required).is_file():
            raise UsageError(f"cannot package {run_dir}: it lacks {required}; export the run first")
    path = run_dir / f"{name}.zip"
    try:
        with replaced(path) as part:
            with open(part, "wb") as file:
                _pack(run_dir, name, file)
            read_package(part)
    except (OSError, UsageError) as error:
        reason = getattr(error, "strerror", None) or str(error).replace(str(part), path.name)
        raise UsageError(f"cannot package {run_dir}: {reason}") from error
    return path


def read_package(path: Path) -> dict[str, PackedFile]:
    """Check each file of a package, and that the weights open; returns them in their order."""
    if not path.is_file():
        own = path / f"{path.name}.zip"  # of a run's folder
        beside = sorted(str(zipped) for zipped in path.parent.glob("*.zip"))
        hint = f"; did you mean '{own}'?" if own.is_file() else nearest(path, beside)
        raise UsageError(f"no package at {path}{hint}")
    try:
        with zipfile.ZipFile(path) as archive:
            return _check(archive, path)
    except DAMAGE as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(
            f"{path} is no whole package: {' '.join(str(error).split())}; a zip archive that "
            "a run has left was expected"
        ) from error


def unpack(path: Path, folder: Path) -> None:
    """Check a package and write its files into a folder, which is then like a run's."""
    known = (*REQUIRED, *OPTIONAL)
    files = read_package(path)
    strange = next((name for name in files if name not in known), None)
    if strange is not None:
        raise UsageError(f"{path} holds {strange}, which no run writes")
    with zipfile.ZipFile(path) as archive, file_errors(f"cannot unpack {path} into {folder}"):
        for name in files:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            write_whole(archive.read(name), target.parent, target.name, durable=False)


def _pack(run_dir: Path, name: str, file: IO[bytes]) -> None:
    files: dict[str, PackedFile] = {}
    with zipfile.ZipFile(file, "w") as archive:
        for inside in (*REQUIRED, *OPTIONAL):
            source = run_dir / inside
            if not source.is_file() or (
                inside == RunFile.BASELINES and source.stat().st_size > MOST_BASELINES_BYTES
            ):
                continue
            if inside in WITHOUT_PLACES:
                text = WITHOUT_PLACES[inside](source.read_text("utf-8"))
                files[inside] = _add_text(archive, inside, text)
            else:
                with source.open("rb") as content:
                    files[inside] = _add(archive, inside, content, source.stat().st_size)
        manifest = {"format": FORMAT, "version": VERSION, "run": name, "files": files}
        _add_text(archive, MANIFEST_NAME, json.dumps(manifest, indent=2) + "\n")


def _add_text(archive: zipfile.ZipFile, inside: str, text: str) -> PackedFile:
    content = text.encode()
    return _add(archive, inside, io.BytesIO(content), len(content))


def _add(archive: zipfile.ZipFile, inside: str, content: IO[bytes], size: int) -> PackedFile:
    entry = zipfile.ZipInfo(inside, NO_TIME)
    entry.create_system, entry.external_attr = UNIX, READABLE << 16
    stored = inside.endswith(STORED)
    entry.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    entry.file_size = size  # decides whether the entry needs zip's 64 bits
    with archive.open(entry, "w") as target:
        return _measure(content, target)


def _measure(file: IO[bytes], target: IO[bytes] | None = None) -> PackedFile:
    """The checksum and size of a file, which is copied to ``target``."""
    digest, size = hashlib.sha256(), 0
    while piece := file.read(PIECE_BYTES):
        digest.update(piece)
        size += len(piece)
        if target is not None:
            target.write(piece)
    return {"sha256": digest.hexdigest(), "size": size}


def _check(archive: zipfile.ZipFile, path: Path) -> dict[str, PackedFile]:
    listed = _manifest(archive, path)
    inside = archive.namelist()
    for name in dict.fromkeys((*REQUIRED, *listed)):
        if name not in inside:
            raise UsageError(f"{path} lacks {name}")
    for name in inside:
        if (name != MANIFEST_NAME and name not in listed) or inside.count(name) > 1:
            raise UsageError(f"{path} holds {name}, which its {MANIFEST_NAME} does not list once")
    for name, expected in listed.items():
        try:
            with archive.open(name) as file:
                found = _measure(file)
        except DAMAGE as error:
            raise UsageError(f"{path}: {name} is damaged and cannot be unpacked") from error
        if found != expected:
            raise UsageError(f"{path}: {name} is damaged, its checksum is not the manifest's")
    try:
        deserialize(archive.read(RunFile.WEIGHTS))
    except SafetensorError as error:
        raise UsageError(f"{path}: {RunFile.WEIGHTS} cannot be loaded: {error}") from error
    return listed


def _manifest(archive: zipfile.ZipFile, path: Path) -> dict[str, PackedFile]:
    if MANIFEST_NAME not in archive.namelist():
        raise UsageError(f"{path} lacks {MANIFEST_NAME}: it is no package of a run")
    try:
        content = json.loads(archive.read(MANIFEST_NAME))
        if content["format"] != FORMAT or content["version"] != VERSION:
            raise UsageError(
                f"{path}: '{content['format']}' {content['version']}, where '{FORMAT}' {VERSION} "
                "was expected"
            )
        return {name: dict(packed) for name, packed in content["files"].items()}
    except (*DAMAGE, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{path}: {MANIFEST_NAME} is damaged and cannot be read") from error


def without_places(value: Any) -> Any:
    """The same plain value, with the last name of every path that starts at a root.

    Names of columns stay as they are.

    Example:
        >>> without_places({"root": "/data/lab/cohorts/hcc", "label": "/a", "notes": ["a/b"]})
        {'root': 'hcc', 'label': '/a', 'notes': ['a/b']}
    """
    if isinstance(value, dict):
        return {k: v if k in COLUMNS else without_places(v) for k, v in value.items()}
    if isinstance(value, list):
        return [without_places(item) for item in value]
    match = PLACED.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return value
    last = re.split(r"[/\\]", match[2].rstrip("/\\"))[-1]
    return match[1] + last if last else value


def _config_without_places(text: str) -> str:
    values = without_places(read_yaml(text, RunFile.CONFIG))
    split = values["data"]["split"]
    if split["file"] is not None:  # what it held is in the package
        split["file"] = RunFile.SPLITS
    return write_yaml(values)


def _environment_without_places(text: str) -> str:
    values = json.loads(text)
    values["command"] = shlex.join(without_places(shlex.split(values["command"])))
    return json.dumps(without_places(values), indent=2, ensure_ascii=False) + "\n"


WITHOUT_PLACES: dict[str, Callable[[str], str]] = {
    RunFile.CONFIG: _config_without_places,
    RunFile.RESOLVED: _config_without_places,
    RunFile.ENVIRONMENT: _environment_without_places,
}
