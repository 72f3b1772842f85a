"""A cohort on disk: samples with targets, groups and covariates, and their spectra.

The folder holds `samples.csv` (one row per sample: `sample_id`, group, label, covariates),
`scans.csv` (row i names the `sample_id` and `scan` of row i of the spectra), `spectra.npy` (float32
[N_scans, L]), `axis.npy` ([L]), and optionally `cohort.yaml`, whose `roles: {group, label, numeric:
[...], categorical: [...]}` name the columns. A cohort of covariates alone has neither scans nor
spectra nor axis: each of its samples counts as one scan of no points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datasets.cohort.checksums import ChecksumCache, file_sha256
from datasets.cohort.names import (
    AXIS_FILE,
    SAMPLE_ID,
    SAMPLES_FILE,
    SCAN,
    SCANS_FILE,
    SPECTRA_FILE,
    SPECTRAL_FILES,
)
from datasets.cohort.roles import ROLES_FILE, Roles
from datasets.cohort.table import as_numbers, is_missing, read_table, require_file
from datasets.cohort.targets import (
    AUTO,
    HEADINGS,
    MISSING_LABEL,
    UNLABELLED,
    about_positive,
    describe_missing,
    read_targets,
    summarise_targets,
)
from datasets.errors import CohortError, UsageError, nearest, refused
from datasets.messages import Message
from datasets.paths import as_path
from datasets.scans import iterate_chunks
from datasets.summaries import WithSummary

# Up to this size intensities are checked when a cohort is read; larger spectra when they are
# hashed, which reads them anyway.
CHECKED_AT_ONCE_BYTES = 256 * 2**20


@dataclass(frozen=True, eq=False, repr=False)
class Cohort(WithSummary):
    """Samples, their targets and groups, and the memory-mapped spectra; read by `Cohort.read`.

    `samples` has one row per kept sample: `sample_id`, label and group as text, numeric covariates
    as float64, every other column as text, NaN where there is no value. `axis` is m/z, wavenumber
    or time, [L]; L = 0 without spectra. `spectra` are all of the folder, left-out samples' too,
    float32 [N_scans, L]; `scan_rows` each kept sample's rows of them, int64. `class_names` are by
    class number; for several labels or values to regress their columns. `targets` are class
    numbers, int64 [N]; labels (0 or 1), int64 [N, T]; or values in the columns' units, float64 [N,
    T]. `excluded` counts the samples of left-out labels, "(missing)" among them; `missing` the
    texts in the cells of samples without a target. `label`, `group`, `numeric` and `categorical`
    are names of columns.
    """

    root: Path
    samples: pd.DataFrame
    axis: np.ndarray
    spectra: np.ndarray
    scan_rows: list[np.ndarray]
    task: str
    class_names: list[str]
    targets: np.ndarray
    groups: np.ndarray
    sample_ids: list[str]
    label: list[str]
    group: str
    numeric: list[str]
    categorical: list[str]
    excluded: dict[str, int]
    missing: dict[str, int] = field(default_factory=dict)

    @classmethod
    def read(
        cls,
        root: str | Path,
        labels: Mapping[Any, int] | None = None,
        label: str | Sequence[str] | None = None,
        group: str | None = None,
        numeric: Sequence[str] | None = None,
        categorical: Sequence[str] | None = None,
        task: str = AUTO,
    ) -> Cohort:
        """Read and check a cohort's folder; its spectra are not loaded.

        Samples left out by `labels`, or without a target, are not checked further. Scans are in the
        order of `scan`: as numbers where all are numbers, otherwise as text. Spectra of more than
        ``CHECKED_AT_ONCE_BYTES`` are checked by :meth:`fingerprint`. CohortError where the folder,
        or an argument, cannot be used.

        `labels` are the class numbers of labels, such as `{"HCC": 1, "LC": 0, "CHB": 0}`; others
        are left out. None makes every label a class, in order; of two the one named by a word such
        as "control" is class 0. Several columns of `label` are several labels or targets. Columns
        that are None are those of cohort.yaml: covariates without the columns of `label`; of
        `group` else "group", else each sample is a group. `task` "auto" is binary or multiclass. Of
        "unlabelled" no targets are read, and all samples are kept.
        """
        folder = require_folder(root)
        path = folder / SAMPLES_FILE
        table = read_table(path, [SAMPLE_ID])
        roles = Roles.choose(folder, table.columns, label, group, numeric, categorical)
        if task == UNLABELLED:
            roles = replace(roles, label=[])
        roles.check(table, str(path))
        all_ids = _sample_ids(table, str(path))
        targets = read_targets(table, roles.label, task, labels, str(path))
        samples = _typed(table[targets.kept].reset_index(drop=True), roles, str(path))
        sample_ids = samples[SAMPLE_ID].tolist()

        if any((folder / name).exists() for name in SPECTRAL_FILES):
            axis, spectra, rows_of = _open_scans(folder, all_ids, targets.kept)
        else:
            axis, spectra, rows_of = _no_scans(folder, all_ids, roles)
        return cls(
            root=folder,
            samples=samples,
            axis=axis,
            spectra=spectra,
            scan_rows=[rows_of[index] for index in np.flatnonzero(targets.kept)],
            task=targets.task,
            class_names=targets.names,
            targets=targets.values[targets.kept],
            groups=samples[roles.group].to_numpy(dtype=str),
            sample_ids=sample_ids,
            **vars(roles),
            excluded=targets.excluded,
            missing=targets.missing,
        )

    def __len__(self) -> int:
        """N, the samples."""
        return len(self.sample_ids)

    @property
    def shape(self) -> tuple[int]:
        """(N,): to scikit-learn, which splits by it, an array of samples."""
        return (len(self),)

    def __getitem__(self, rows: Any) -> Cohort:
        """The same of some samples: numbers, a slice, or bool [N]; scikit-learn adds ``...``.

        Classes without a sample stay.
        """
        chosen = np.atleast_1d(np.arange(len(self))[rows])
        return replace(
            self,
            samples=self.samples.iloc[chosen].reset_index(drop=True),
            scan_rows=[self.scan_rows[row] for row in chosen],
            targets=self.targets[chosen],
            groups=self.groups[chosen],
            sample_ids=[self.sample_ids[row] for row in chosen],
        )

    @property
    def spec_len(self) -> int:
        """Points of a spectrum, L."""
        return len(self.axis)

    @property
    def has_spectra(self) -> bool:
        """Whether there is more than covariates."""
        return self.spec_len > 0

    def summary(self) -> dict[str, object]:
        """Name, sizes and task."""
        return {
            "name": self.root.name,
            "samples": len(self),
            "scans": sum(map(len, self.scan_rows)) if self.has_spectra else 0,
            "points": self.spec_len,
            "groups": len(np.unique(self.groups)),
            "task": self.task,
        }

    def details(self) -> dict[str, object]:
        """Axis, targets, covariates and folder."""
        found: dict[str, object] = {}
        if self.has_spectra:
            found["axis"] = f"{self.axis[0]:g} to {self.axis[-1]:g}"
        if len(self) and self.class_names:
            found["targets"] = summarise_targets(self.task, self.targets, self.class_names)
        found["covariates"] = ", ".join([*self.numeric, *self.categorical]) or "none"
        return found | {"folder": self.root}

    def describe(self) -> str:
        """The cohort's content in a few lines."""
        return "\n".join(self.lines())

    def lines(self) -> list[Message]:
        """The lines of :meth:`describe`."""
        counts = [len(rows) for rows in self.scan_rows]
        targets = summarise_targets(self.task, self.targets, self.class_names)
        covariates = ", ".join([*self.numeric, *self.categorical]) or Message("none")
        left_out = [
            Message("{} {}", Message(name) if name == MISSING_LABEL else name, count)
            for name, count in self.excluded.items()
        ]
        samples = self.root.name, len(self.sample_ids)
        content = Message("cohort {}: {} samples, covariates alone, no spectra", *samples)
        if self.has_spectra:
            content = Message(
                "cohort {}: {} samples, {} scans ({} to {} a sample) of {} points ({} to {})",
                *(*samples, sum(counts), min(counts), max(counts), self.spec_len),
                *(f"{end:g}" for end in (self.axis[0], self.axis[-1])),
            )
        told = f"{HEADINGS.get(self.task, 'classes')}: {{}}; groups: {{}}"
        lines = [
            content,
            Message(told, targets, len(np.unique(self.groups))),
            about_positive(self.task, self.class_names),
            Message("covariates: {}; left-out labels: {}", covariates, left_out or Message("none")),
        ]
        if "group" not in self.samples and list(self.groups) == self.sample_ids:
            lines.append(Message("no column of groups: each sample is a group of its own"))
        if self.missing:
            without = self.excluded[MISSING_LABEL]
            lines.append(describe_missing(self.task, self.missing, without))
        return [line for line in lines if line]

    def fingerprint(self, memory: ChecksumCache | None = None) -> dict[str, str]:
        """SHA-256 of each of the cohort's files by name; checks that large spectra are finite."""
        memory = memory or ChecksumCache()
        measures = {SPECTRA_FILE: self._hash_spectra} if self.has_spectra else {}
        return {
            name: memory.sha256(self.root / name, measures.get(name, file_sha256))
            for name in (SAMPLES_FILE, *SPECTRAL_FILES, ROLES_FILE)
            if (self.root / name).is_file()
        }

    def check_finite(self) -> None:
        """Read all spectra; CohortError where an intensity is NaN or infinite."""
        _check_finite(self.root, self.spectra)

    def _hash_spectra(self, path: Path) -> str:
        self.check_finite()
        return file_sha256(path)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the spectra out: pickling a memory map would copy all of it into each worker."""
        return {name: value for name, value in self.__dict__.items() if name != "spectra"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Map the spectra again."""
        self.__dict__.update(state)
        spectra = np.zeros((max(map(max, self.scan_rows)) + 1, 0), dtype=np.float32)
        if self.has_spectra:
            spectra = np.lib.format.open_memmap(self.root / SPECTRA_FILE, mode="r")
        self.__dict__["spectra"] = spectra


def _sample_ids(table: pd.DataFrame, where: str) -> pd.Index:
    ids = table[SAMPLE_ID]
    if not len(ids):
        raise CohortError(f"{where} has no rows; a row a sample was expected")
    empty = (ids == "").to_numpy()
    if empty.any():
        raise CohortError(f"{where}: empty sample_id in row {int(np.argmax(empty)) + 1}")
    double = ids.duplicated().to_numpy()
    if double.any():
        raise CohortError(
            f"{where}: duplicate sample_id {ids.iloc[int(np.argmax(double))]!r} "
            f"({int(double.sum())} repeated rows); a row a sample was expected"
        )
    index: pd.Index = pd.Index(ids.to_list(), dtype=object)
    return index


def _typed(samples: pd.DataFrame, roles: Roles, where: str) -> pd.DataFrame:
    ids = samples[SAMPLE_ID].tolist()
    missing = is_missing(samples[roles.group])
    # A sample may be named 'NA'.
    if missing.any() and roles.group != SAMPLE_ID:
        raise CohortError(
            f"{where}: sample {ids[int(np.argmax(missing))]!r} has no {roles.group!r} "
            f"({int(missing.sum())} samples have none); the split needs every sample's group"
        )
    typed = {}
    for column in samples.columns:
        values = samples[column]
        if column in roles.numeric:
            typed[column] = pd.Series(as_numbers(values, column, ids))
        elif column in (SAMPLE_ID, *roles.label, roles.group):
            typed[column] = values
        else:
            typed[column] = values.where(~is_missing(values), np.nan)
    return pd.DataFrame(typed)


def _open_scans(
    folder: Path, samples: pd.Index, kept: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Axis [L], spectra [N_scans, L], and each sample's rows."""
    scans = read_table(folder / SCANS_FILE, [SAMPLE_ID, SCAN])
    rows_of = find_scan_rows(scans, samples, str(folder / SCANS_FILE))
    without = [number for number in np.flatnonzero(kept).tolist() if not len(rows_of[number])]
    if without:
        raise CohortError(
            f"{folder / SCANS_FILE} has no scan of sample {samples[without[0]]!r} ({len(without)} "
            f"of {int(kept.sum())} samples have none); every sample needs at least one"
        )
    axis = read_axis(folder / AXIS_FILE)
    spectra = open_spectra(folder / SPECTRA_FILE, len(scans), len(axis))
    if spectra.nbytes <= CHECKED_AT_ONCE_BYTES:
        _check_finite(folder, spectra)
    return axis, spectra, rows_of


def _no_scans(
    folder: Path, samples: pd.Index, roles: Roles
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    if not roles.numeric and not roles.categorical:
        raise CohortError(
            f"{folder} has no spectra ({', '.join(SPECTRAL_FILES)}), and no column of "
            f"{SAMPLES_FILE} is named as a covariate: name some as numeric or categorical"
        )
    rows_of = list(np.arange(len(samples), dtype=np.int64)[:, None])
    spectra = np.zeros((len(samples), 0), dtype=np.float32)
    return spectra[0], spectra, rows_of


def _check_finite(folder: Path, spectra: np.ndarray) -> None:
    """Check that no intensity is NaN or infinite."""
    start = 0
    for piece in iterate_chunks(spectra, np.arange(len(spectra))):
        finite = np.isfinite(piece)
        if not finite.all():
            inside, point = np.argwhere(~finite)[0].tolist()
            scan = read_table(folder / SCANS_FILE).iloc[start + inside]
            raise CohortError(
                f"spectra.npy, row {start + inside} (sample {scan[SAMPLE_ID]!r}, scan "
                f"{scan[SCAN]}): {piece[inside, point]} at point {point}; finite intensities were "
                "expected"
            )
        start += len(piece)


def require_folder(path: str | Path) -> Path:
    """The folder as a path; CohortError where there is none, with the nearest one beside it."""
    with refused("the cohort's folder", UsageError):
        folder = as_path(path)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise CohortError(f"{folder} is a file; a cohort's folder was expected")
    parent = next(upper for upper in [*folder.parents, Path()] if upper.is_dir())
    missing = folder.relative_to(parent).parts[0]
    beside = sorted(entry.name for entry in parent.iterdir() if entry.is_dir())
    found = f"in {parent}{nearest(missing, beside)}" if beside else f"{parent} holds none"
    raise CohortError(f"no folder {folder}; {found}")


def find_scan_rows(scans: pd.DataFrame, samples: pd.Index, where: str) -> list[np.ndarray]:
    """Each sample's rows, int64, in the order of ``scan``: as numbers if all are, else as text.

    Names are compared as text: 1 and 01 are two scans, and large integers are exact. CohortError
    for a row of no sample, without a scan number, or repeated.
    """
    ids, names = scans[SAMPLE_ID], scans[SCAN]
    owner = samples.get_indexer(pd.Index(ids, dtype=object))
    unknown = owner < 0
    if unknown.any():
        raise CohortError(
            f"{where}: scan of unknown sample {ids[unknown].iloc[0]!r} ({int(unknown.sum())} such "
            f"rows); samples are named in samples.csv{nearest(ids[unknown].iloc[0], samples)}"
        )
    missing = is_missing(names)
    if missing.any():
        raise CohortError(f"{where}: no scan number in row {int(np.argmax(missing)) + 1}")
    repeated = scans[scans.duplicated([SAMPLE_ID, SCAN])]
    if len(repeated):
        raise CohortError(
            f"{where}: sample {repeated[SAMPLE_ID].iloc[0]!r} has scan {repeated[SCAN].iloc[0]!r} "
            "more than once"
        )
    keys: list[np.ndarray] = [pd.factorize(names, sort=True)[0], owner]
    numbers = np.asarray(pd.to_numeric(names, errors="coerce"), dtype=np.float64)
    if not np.isnan(numbers).any():
        # Names that are one float64, such as 01 and 1 or large integers, differ as text.
        keys[1:1] = [names.str.len().to_numpy(), numbers]
    order = np.lexsort(keys).astype(np.int64)
    return np.split(order, np.cumsum(np.bincount(owner, minlength=len(samples)))[:-1])


def _map_array(path: Path) -> np.memmap:
    """Memory-map an .npy file; never unpickles, never reads the data."""
    require_file(path)
    damage = (ValueError, OSError, EOFError, OverflowError, SyntaxError)
    with refused(f"{path} cannot be read as an .npy array of numbers", *damage):
        return np.lib.format.open_memmap(path, mode="r")


def read_axis(path: Path) -> np.ndarray:
    """Read an axis, [L], as native float32 or float64; CohortError where it does not rise."""
    mapped = _map_array(path)
    if mapped.ndim != 1 or mapped.dtype.kind not in "fiu" or not len(mapped):
        raise CohortError(
            f"{path} holds {mapped.dtype} {list(mapped.shape)}; float32 [L] was expected"
        )
    # torch has no tensor of other types and byte orders.
    single = mapped.dtype.kind == "f" and mapped.dtype.itemsize <= np.dtype(np.float32).itemsize
    with np.errstate(over="ignore"):  # named below: a long double can exceed float64
        axis = np.array(mapped, dtype=np.float32 if single else np.float64)
    if not np.isfinite(axis).all():
        point = int(np.argmin(np.isfinite(axis)))
        raise CohortError(f"{path} holds {axis[point]} at point {point}; finite was expected")
    falls = ~(np.diff(axis) > 0)
    if falls.any():
        point = int(np.argmax(falls)) + 1
        hint = "; it falls throughout: reverse the axis and every spectrum" if falls.all() else ""
        raise CohortError(
            f"{path} is not strictly increasing: point {point} is {axis[point]:.10g} after "
            f"{axis[point - 1]:.10g}, as {axis.dtype}{hint}"
        )
    return axis


def open_spectra(path: Path, scans: int, points: int) -> np.memmap:
    """Memory-map the spectra, float32 [``scans``, ``points``], read-only; else CohortError."""
    spectra = _map_array(path)
    if spectra.ndim != 2 or spectra.dtype != np.float32:
        is_numbers = spectra.ndim == 2 and spectra.dtype.kind in "fiu"
        mend = "; write them again with numpy: spectra.astype('float32')" if is_numbers else ""
        raise CohortError(
            f"{path} holds {spectra.dtype} {list(spectra.shape)}; float32 [scans, points] was "
            f"expected{mend}"
        )
    if spectra.shape[1] != points:
        raise CohortError(
            f"{path} has spectra of {spectra.shape[1]} points, but axis.npy has {points}"
        )
    if spectra.shape[0] != scans:
        raise CohortError(f"{path} has {spectra.shape[0]} spectra, but scans.csv has {scans} rows")
    return spectra
