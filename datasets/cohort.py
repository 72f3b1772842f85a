"""A cohort on disk: samples with targets, groups and covariates, and their spectra.

The folder is neutral: `samples.csv` (a row a sample: `sample_id`, group, label, covariates),
`scans.csv` (row i says whose spectrum row i of the spectra is: `sample_id`, `scan`),
`spectra.npy` (float32 [N_scans, L]), `axis.npy` ([L]), and optionally `cohort.yaml`, whose
`roles: {group, label, numeric: [...], categorical: [...]}` say how the columns are meant.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datasets.arrays import check_finite, open_spectra, read_axis
from datasets.errors import CohortError, nearest
from datasets.roles import ROLES_FILE, SAMPLE_ID, Roles
from datasets.table import as_numbers, is_missing, read_table, require_folder
from datasets.targets import AUTO, read_targets, summarise_targets, targets_heading

SCAN = "scan"

SAMPLES_FILE = "samples.csv"
SCANS_FILE = "scans.csv"
SPECTRA_FILE = "spectra.npy"
AXIS_FILE = "axis.npy"

HASH_BYTES = 2**20


@dataclass(frozen=True, eq=False)
class Cohort:
    """Samples, their targets and groups, and the memory-mapped spectra; read by `Cohort.read`.

    Attributes:
        root: The folder.
        samples: The kept samples, one a row: `sample_id`, label and group as text, numeric
            covariates as float64, every other column as text, NaN where there is no value.
        axis: The axis of the spectra (m/z, wavenumber, time), [L].
        spectra: All spectra of the folder, left-out samples' too, float32 [N_scans, L].
        scan_rows: For each kept sample the rows of `spectra` that are its scans, int64.
        task: What is to be learned, one of `datasets.targets.TASKS`.
        class_names: The classes' names, by class number; for several labels or values to regress
            their columns.
        targets: Class numbers, int64 [N]; labels (0 or 1), int64 [N, T]; or values to regress in
            the columns' units, float64 [N, T].
        groups: Groups, str [N].
        sample_ids: Names of the samples, N of them.
        numeric: The numeric covariates' columns.
        categorical: The categorical covariates' columns.
        excluded: Labels that were left out, with their number of samples; samples without a
            target are counted as "(missing)".
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
    numeric: list[str]
    categorical: list[str]
    excluded: dict[str, int]

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
        """Read and check a cohort's folder.

        What is left out by `labels`, or has no target, is not checked for its group, covariates
        or scans. Scans stand in the order of `scan`: as numbers where all are numbers, otherwise
        as text.

        Args:
            root: The folder.
            labels: Class number of each label, such as `{"HCC": 1, "LC": 0, "CHB": 0}`; labels
                that are not listed are left out. None makes every label a class of its own,
                in sorted order.
            label: Column of the labels, or the columns of several labels or targets. None takes
                what cohort.yaml says, or else "label".
            group: Column of the groups that a split keeps together (patient, plate, site). None
                takes what cohort.yaml says, or else "group".
            numeric: Columns of numeric covariates. None takes what cohort.yaml says without
                the columns of `label`, or else none.
            categorical: Columns of categorical covariates, likewise.
            task: "binary", "multiclass", "multilabel", "regression"; "auto" takes one of the first
                two by the number of classes.

        Returns:
            The cohort, its spectra not loaded.

        Raises:
            CohortError: The folder, or a choice made about it, cannot be used; one line says why.
        """
        folder = require_folder(root)
        roles = Roles.choose(folder, label, group, numeric, categorical)
        path = folder / SAMPLES_FILE
        table = read_table(path, [SAMPLE_ID])
        roles.check(table, str(path))
        all_ids = _sample_ids(table, str(path))
        targets = read_targets(table, roles.label, task, labels, str(path))
        samples = _typed(table[targets.kept].reset_index(drop=True), roles, str(path))
        sample_ids = samples[SAMPLE_ID].tolist()

        scans = read_table(folder / SCANS_FILE, [SAMPLE_ID, SCAN])
        rows_of = _scan_rows(scans, all_ids, str(folder / SCANS_FILE))
        scan_rows = [rows_of[index] for index in np.flatnonzero(targets.kept)]
        without = [name for name, rows in zip(sample_ids, scan_rows, strict=True) if not len(rows)]
        if without:
            raise CohortError(
                f"{folder / SCANS_FILE} has no scan of sample {without[0]!r} ({len(without)} "
                f"of {len(sample_ids)} samples have none); every sample needs at least one"
            )
        axis = read_axis(folder / AXIS_FILE)
        spectra = open_spectra(folder / SPECTRA_FILE, len(scans), len(axis))
        check_finite(
            spectra,
            lambda row: f"sample {scans[SAMPLE_ID].iloc[row]!r}, scan {scans[SCAN].iloc[row]}",
        )
        return cls(
            root=folder,
            samples=samples,
            axis=axis,
            spectra=spectra,
            scan_rows=scan_rows,
            task=targets.task,
            class_names=targets.names,
            targets=targets.values[targets.kept],
            groups=samples[roles.group].to_numpy(dtype=str),
            sample_ids=sample_ids,
            numeric=roles.numeric,
            categorical=roles.categorical,
            excluded=targets.excluded,
        )

    @property
    def spec_len(self) -> int:
        """Points of a spectrum, L."""
        return len(self.axis)

    def describe(self) -> str:
        """Say in a few plain lines what the cohort holds."""
        counts = [len(rows) for rows in self.scan_rows]
        targets = summarise_targets(self.task, self.targets, self.class_names)
        covariates = ", ".join([*self.numeric, *self.categorical]) or "none"
        left_out = ", ".join(f"{name} {count}" for name, count in self.excluded.items()) or "none"
        return "\n".join(
            [
                f"cohort {self.root.name}: {len(self.sample_ids)} samples, {sum(counts)} scans "
                f"({min(counts)} to {max(counts)} a sample) of {self.spec_len} points "
                f"({self.axis[0]:g} to {self.axis[-1]:g})",
                f"{targets_heading(self.task)}: {targets}; groups: {len(np.unique(self.groups))}",
                f"covariates: {covariates}; left-out labels: {left_out}",
            ]
        )

    def fingerprint(self) -> dict[str, str]:
        """Return the SHA-256 of each of the cohort's files, by file name."""
        names = [SAMPLES_FILE, SCANS_FILE, SPECTRA_FILE, AXIS_FILE, ROLES_FILE]
        return {name: _sha256(self.root / name) for name in names if (self.root / name).is_file()}

    def __getstate__(self) -> dict[str, Any]:
        """Leave the spectra out: pickling a memory map would copy all of it into each worker."""
        return {name: value for name, value in self.__dict__.items() if name != "spectra"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Map the spectra again."""
        self.__dict__.update(state)
        spectra = np.lib.format.open_memmap(self.root / SPECTRA_FILE, mode="r")
        self.__dict__["spectra"] = spectra


def _sample_ids(table: pd.DataFrame, where: str) -> pd.Index:
    """Check that every sample has a name of its own."""
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
    """Give the kept samples' columns their types and check groups and numeric covariates."""
    ids = samples[SAMPLE_ID].tolist()
    missing = is_missing(samples[roles.group])
    # A column of names is taken as it stands: a sample may well be called 'NA'.
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


def _scan_rows(scans: pd.DataFrame, samples: pd.Index, where: str) -> list[np.ndarray]:
    """Find each sample's rows, in the order of `scan`."""
    owner = samples.get_indexer(pd.Index(scans[SAMPLE_ID].to_list(), dtype=object))
    unknown = owner < 0
    if unknown.any():
        name = scans[SAMPLE_ID].iloc[int(np.argmax(unknown))]
        raise CohortError(
            f"{where}: scan of unknown sample {name!r} ({int(unknown.sum())} such rows); samples "
            f"are named in {SAMPLES_FILE}{nearest(name, samples)}"
        )
    missing = is_missing(scans[SCAN])
    if missing.any():
        raise CohortError(f"{where}: no scan number in row {int(np.argmax(missing)) + 1}")
    numbers = np.asarray(pd.to_numeric(scans[SCAN], errors="coerce"), dtype=np.float64)
    order_key = numbers
    if np.isnan(numbers).any():
        as_text = np.unique(scans[SCAN].to_numpy(dtype=str), return_inverse=True)[1]
        order_key = as_text.astype(np.float64)
    order = np.lexsort((order_key, owner))
    same = (np.diff(owner[order]) == 0) & (np.diff(order_key[order]) == 0)
    if same.any():
        row = int(order[int(np.argmax(same)) + 1])
        raise CohortError(
            f"{where}: sample {scans[SAMPLE_ID].iloc[row]!r} has scan {scans[SCAN].iloc[row]!r} "
            "more than once"
        )
    ends = np.cumsum(np.bincount(owner, minlength=len(samples)))
    return [rows.astype(np.int64) for rows in np.split(order, ends[:-1])]


def _sha256(path: Path) -> str:
    """Hash a file in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(HASH_BYTES):
            digest.update(piece)
    return digest.hexdigest()
