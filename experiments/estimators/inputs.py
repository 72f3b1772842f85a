"""What an estimator may be given as X, and the cohort that it is trained on as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datasets.cohort import SAMPLE_ID, Cohort
from datasets.errors import UsageError

# In place of the folder of a cohort in memory.
IN_MEMORY = Path("arrays")


@dataclass(frozen=True, eq=False)
class CohortArrays:
    """Samples in memory, which scikit-learn can index: ``X[rows]`` are some of them.

    ``spectra`` are [N, S, L]; ``mask``, bool [N, S], is True for a real scan, at least one a
    sample, None for all. ``covariates`` are numbers [N, D] or a table, whose columns of numbers are
    numeric and whose others are categorical; NaN is allowed. ``groups`` [N] are never separated by
    the validation split. ``axis`` [L] rises strictly, None for 0, 1, ... UsageError where they do
    not fit together.
    """

    spectra: np.ndarray
    mask: np.ndarray | None = None
    covariates: np.ndarray | pd.DataFrame | None = None
    groups: Sequence[Any] | np.ndarray | None = None
    axis: Sequence[float] | np.ndarray | None = None

    def __post_init__(self) -> None:
        """Check the shapes."""
        spectra = np.asarray(self.spectra)
        if spectra.ndim != 3 or 0 in spectra.shape:
            raise UsageError(f"spectra: [N, S, L] was expected, not {list(spectra.shape)}")
        samples, scans, points = spectra.shape
        mask = np.ones((samples, scans), dtype=bool)
        if self.mask is not None:
            mask = np.asarray(self.mask)
        if mask.shape != (samples, scans) or mask.dtype != bool:
            raise UsageError(
                f"mask: bool [{samples}, {scans}] was expected, not {mask.dtype} {list(mask.shape)}"
            )
        if not mask.any(axis=1).all():
            row = int(np.argmin(mask.any(axis=1)))
            raise UsageError(f"mask: sample {row} has no scan; at least one was expected")
        for name, given in (("covariates", self.covariates), ("groups", self.groups)):
            if given is not None and len(given) != samples:
                raise UsageError(f"{name}: {len(given)} rows for {samples} samples")
        object.__setattr__(self, "spectra", spectra)
        object.__setattr__(self, "mask", mask)
        object.__setattr__(self, "axis", _checked_axis(self.axis, points))
        if self.groups is not None:
            object.__setattr__(self, "groups", np.asarray(self.groups))

    def __len__(self) -> int:
        """N."""
        return len(self.spectra)

    @property
    def shape(self) -> tuple[int]:
        """(N,): to scikit-learn samples of one row each."""
        return (len(self),)

    def __getitem__(self, rows: Any) -> CohortArrays:
        """The same of some samples: numbers, a slice, or bool [N]; scikit-learn adds ``...``."""
        chosen = np.atleast_1d(np.arange(len(self))[rows])
        of_samples: dict[str, Any] = {}
        for each in fields(self):
            given = getattr(self, each.name)
            if given is not None and each.name != "axis":
                own = given.iloc if isinstance(given, pd.DataFrame) else np.asarray(given)
                of_samples[each.name] = own[chosen]
        return CohortArrays(**of_samples, axis=self.axis)

    def cohort(self) -> Cohort:
        """A cohort of them, without targets."""
        samples, scans, points = self.spectra.shape
        assert self.mask is not None
        with np.errstate(over="ignore"):
            flat = self.spectra.astype(np.float32).reshape(samples * scans, points)
        bad = ~np.isfinite(flat).all(axis=1) & self.mask.reshape(-1)
        if bad.any():
            raise UsageError(
                f"spectra: sample {int(np.argmax(bad)) // scans} holds NaN, infinity or a value "
                "too large for float32; finite intensities were expected"
            )
        table, numeric, categorical = _covariates(self.covariates, samples)
        names = [str(number) for number in range(samples)]
        table.insert(0, SAMPLE_ID, names)
        groups = names if self.groups is None else self.groups
        return Cohort(
            root=IN_MEMORY,
            samples=table,
            axis=np.asarray(self.axis),
            spectra=flat,
            scan_rows=[
                number * scans + np.flatnonzero(own) for number, own in enumerate(self.mask)
            ],
            task="",
            class_names=[],
            targets=np.zeros(samples, dtype=np.int64),
            groups=group_names(groups),
            sample_ids=names,
            label=["y"],
            group="groups",
            numeric=numeric,
            categorical=categorical,
            excluded={},
        )


def group_names(groups: Any) -> np.ndarray:
    """The name of each sample's group, [N]; UsageError where one is missing."""
    given = np.asarray(groups)
    if given.ndim != 1:
        raise UsageError(f"groups: [N] was expected, not {list(given.shape)}")
    missing = np.asarray(pd.isna(given))
    if missing.any():
        raise UsageError(f"groups: sample {int(np.argmax(missing))} has none")
    return given.astype(str)


def mean_spectra(matrix: np.ndarray, columns: Any = None) -> CohortArrays:
    """One scan for each row of [N, L]; ``columns`` that are numbers are the axis."""
    axis = None
    if columns is not None:
        numbers = np.asarray(pd.to_numeric(pd.Series(list(columns)), errors="coerce"), dtype=float)
        axis = None if np.isnan(numbers).any() else numbers
    return CohortArrays(np.asarray(matrix)[:, None], axis=axis)


def _checked_axis(axis: Any, points: int) -> np.ndarray:
    if axis is None:
        return np.arange(points, dtype=np.float64)
    checked = np.asarray(axis, dtype=np.float64)
    if checked.shape != (points,):
        raise UsageError(f"axis: [{points}] was expected, not {list(checked.shape)}")
    if not np.isfinite(checked).all() or (np.diff(checked) <= 0).any():
        raise UsageError("axis: numbers that rise strictly were expected; sort the points by them")
    return checked


def _covariates(given: Any, samples: int) -> tuple[pd.DataFrame, list[str], list[str]]:
    """A table of covariates, and the names of its numeric and of its categorical columns."""
    if given is None:
        given = np.zeros((samples, 0))
    if isinstance(given, pd.DataFrame):
        table = given.reset_index(drop=True)
    else:
        array = np.asarray(given)
        if array.ndim != 2:
            raise UsageError(f"covariates: [N, D] was expected, not {list(array.shape)}")
        names = [f"x{number}" for number in range(array.shape[1])]
        table = pd.DataFrame(array, columns=names).infer_objects()
    table.columns = [str(name) for name in table.columns]
    if SAMPLE_ID in table.columns or not table.columns.is_unique:
        raise UsageError(f"covariates: names that differ, none of them {SAMPLE_ID}, were expected")
    numbers = [
        str(name)
        for name, kind in table.dtypes.items()
        if pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind)
    ]
    others = [name for name in table.columns if name not in numbers]
    return table, numbers, others
