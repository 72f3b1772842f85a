"""Where raw files come from: one file, a folder, or an archive of a folder."""

from __future__ import annotations

import re
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from datasets.cohort import one_line
from datasets.errors import CohortError, nearest

ARCHIVE = re.compile(r"\.(tar|tgz|tbz2|txz|tar\.(gz|bz2|xz))$", re.IGNORECASE)


@dataclass(frozen=True)
class SourceFile:
    """A raw file.

    Attributes:
        path: Where it lies.
        name: Its path below the source's folder, the source's own name first, with slashes; the
            same wherever the source lies.
    """

    path: Path
    name: str


def require_source(source: Path) -> Path:
    """Return the source, or say what beside it was probably meant.

    Raises:
        CohortError: There is no such file or folder.
    """
    if source.exists():
        return source
    beside: list[str] = []
    if source.parent.is_dir():
        beside = sorted(entry.name for entry in source.parent.iterdir())
    raise CohortError(f"no file or folder {source}{nearest(source.name, beside)}")


def is_archive(source: Path) -> bool:
    """Whether a path is that of a tar archive.

    Example:
        >>> is_archive(Path("raw.tar.gz")), is_archive(Path("raw.mzML.gz"))
        (True, False)
    """
    return ARCHIVE.search(source.name) is not None and not source.is_dir()


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack a tar archive; what would land outside of the folder, or is no file, is refused.

    Args:
        archive: It exists.
        folder: Where to; what is there is removed first.

    Returns:
        The unpacked folder, named after the archive.

    Raises:
        CohortError: It is damaged or unsafe, or this Python cannot unpack safely.
    """
    if not hasattr(tarfile, "data_filter"):
        raise CohortError(f"{archive}: this Python cannot unpack safely; unpack it yourself")
    shutil.rmtree(folder, ignore_errors=True)
    root = folder / ARCHIVE.sub("", archive.name)
    root.mkdir(parents=True)
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(root, filter="data")
    except (tarfile.TarError, EOFError) as error:
        raise CohortError(f"{archive} cannot be unpacked: {one_line(error)}") from error
    except OSError as error:
        # What decompressors say of damage has no number; a full disk has one.
        if error.errno is not None:
            raise
        raise CohortError(f"{archive} cannot be unpacked: {one_line(error)}") from error
    except Exception as error:  # zlib.error and lzma.LZMAError have no other common ancestor
        if type(error).__module__ not in ("zlib", "lzma", "_lzma"):
            raise
        raise CohortError(f"{archive} cannot be unpacked: {one_line(error)}") from error
    return root


def list_files(
    root: Path, can_read: Callable[[str], bool], expected: str, pattern: str | None = None
) -> list[SourceFile]:
    """Find the raw files of a source, in the order of their paths.

    Args:
        root: A folder, searched to its depth; or one file, taken as it is.
        can_read: Says by its name whether a file is one; hidden files are passed over.
        expected: What is looked for, for the error line.
        pattern: Only files whose name matches, as a shell's: ``*/1SLin/fid``.

    Raises:
        CohortError: There is none.
    """
    if root.is_file():
        files = [SourceFile(root, f"{root.resolve().parent.name}/{root.name}")]
    else:
        top = root.resolve().name
        found = sorted(
            path.relative_to(root).parts
            for path in root.rglob("*")
            if path.is_file() and not path.name.startswith(".")
        )
        files = [
            SourceFile(root.joinpath(*parts), "/".join((top, *parts)))
            for parts in found
            if can_read(parts[-1])
        ]
        if not files:
            kinds = Counter(Path(parts[-1]).suffix or parts[-1] for parts in found)
            held = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common(5))
            raise CohortError(f"no {expected} in {root}; it holds {held or 'no file'}")
    chosen = [file for file in files if pattern is None or fnmatchcase(file.name, pattern)]
    if not chosen:
        raise CohortError(
            f"none of {len(files)} files matches {pattern!r}; the first is {files[0].name!r}"
        )
    return chosen
