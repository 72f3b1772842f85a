"""Where a trained model's files are: a run, its package, or what a cross-validation recommends."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets.errors import UsageError, file_errors, nearest, refused
from datasets.paths import as_path
from experiments.run_files import RunFile, is_finished, is_run, read_package, run_names, to_resume

RECOMMENDED = "recommended"
ZIP = ".zip"


@dataclass(frozen=True)
class ModelFiles:
    """The files of one model, by their names in a run's folder.

    ``where`` is the folder or package, for messages; ``packed`` the content of a package.
    """

    where: Path
    packed: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def read(self, name: str) -> bytes | None:
        """The content of a file; None where there is none."""
        if self.packed:
            return self.packed.get(name)
        path = self.where / name
        with file_errors(f"cannot read {path}"):
            return path.read_bytes() if path.is_file() else None

    def read_json(self, name: str) -> Mapping[str, Any]:
        """The content of a file of JSON; empty where there is none."""
        content = self.read(name)
        if content is None:
            return {}
        with refused(f"{self.where}: {name} is not as a run writes it", ValueError):
            found = json.loads(content)
            if isinstance(found, dict):
                return found
            raise ValueError(f"a {type(found).__name__} of JSON")

    def require(self, *names: str) -> bytes:
        """The content of the first of these files that there is; UsageError where there is none."""
        for name in names:
            content = self.read(name)
            if content is not None:
                return content
        raise UsageError(f"{self.where} lacks {names[-1]}: no model can be loaded from it")


def find_models(source: str | Path, runs_dir: Path = Path("runs")) -> list[ModelFiles]:
    """The files of a model, or of the several seeds of one that a cross-validation recommends.

    ``source`` is a finished run's folder or name within ``runs_dir``, a cross-validation's folder,
    or a package. UsageError where there is no trained model.
    """
    path = as_path(source)
    # A run is often called as its cohort, whose folder may stand here.
    if not path.is_file() and not _holds_models(path) and (runs_dir / path).exists():
        path = runs_dir / path
    if path.is_file() and (path.suffix == ZIP or zipfile.is_zipfile(path)):
        names = read_package(path)
        with zipfile.ZipFile(path) as archive:
            return [ModelFiles(path, {name: archive.read(name) for name in names})]
    if not path.is_dir():
        known = nearest(path.name, run_names(runs_dir))
        raise UsageError(f"no run, package or cross-validation '{source}'{known}")
    if (path / RECOMMENDED).is_dir():
        path = path / RECOMMENDED
    seeds = _seeds(path)
    if seeds:
        return [_checked(seed) for seed in sorted(seeds, key=lambda seed: int(seed.name[4:]))]
    return [_checked(path)]


def _seeds(folder: Path) -> list[Path]:
    return [seed for seed in folder.glob("seed*") if is_run(seed)]


def _holds_models(folder: Path) -> bool:
    return is_run(folder) or (folder / RECOMMENDED).is_dir() or bool(_seeds(folder))


def _checked(folder: Path) -> ModelFiles:
    """The files of a folder with a trained model."""
    if not is_run(folder):
        raise UsageError(f"{folder} holds no {RunFile.CONFIG}: it is no run")
    if (folder / RunFile.LOG).is_file() and not is_finished(folder):
        raise UsageError(f"{folder} was cut off: continue it ({to_resume(folder)}), then predict")
    files = ModelFiles(folder)
    if not any((folder / name).is_file() for name in (RunFile.WEIGHTS, RunFile.BASELINES)):
        raise UsageError(f"{folder} has no weights ({RunFile.WEIGHTS}): it is not a trained model")
    return files
