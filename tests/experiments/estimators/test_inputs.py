"""What can be X: its shapes, its rows, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.utils import _safe_indexing

from datasets.cohort import Cohort
from datasets.errors import UsageError
from experiments.estimators import CohortArrays
from tests.experiments.estimators.quick import as_arrays


@pytest.fixture
def arrays(cohort_dir):
    return as_arrays(Cohort.read(cohort_dir))


def test_rows_are_taken_of_all_but_the_axis(arrays):
    rows = np.array([5, 3, 8])
    taken = _safe_indexing(arrays, rows)
    assert len(taken) == 3
    assert taken.shape == (3,)
    np.testing.assert_array_equal(taken.spectra, arrays.spectra[rows])
    np.testing.assert_array_equal(taken.mask, arrays.mask[rows])
    np.testing.assert_array_equal(taken.groups, arrays.groups[rows])
    assert taken.covariates.equals(arrays.covariates.iloc[rows])
    np.testing.assert_array_equal(taken.axis, arrays.axis)
    assert len(arrays[np.arange(len(arrays)) < 4]) == 4
    assert len(arrays[2:6]) == 4


def test_scans_are_those_of_the_mask(cohort_dir, arrays):
    read, made = Cohort.read(cohort_dir), arrays.cohort()
    for own, rows in zip(read.scan_rows, made.scan_rows, strict=True):
        np.testing.assert_array_equal(read.spectra[own], made.spectra[rows])
    assert made.numeric == read.numeric
    assert made.categorical == read.categorical
    np.testing.assert_array_equal(made.groups, read.groups)


def test_columns_of_numbers_are_numeric_and_others_categorical():
    table = pd.DataFrame({"age": [40, 50], "sex": ["F", "M"], "smoker": [True, False]})
    cohort = CohortArrays(np.ones((2, 1, 3)), covariates=table).cohort()
    assert cohort.numeric == ["age"]
    assert cohort.categorical == ["sex", "smoker"]
    array = CohortArrays(np.ones((2, 1, 3)), covariates=np.array([[1.0, np.nan], [2.0, 3.0]]))
    assert array.cohort().numeric == ["x0", "x1"]


SPECTRA = np.ones((4, 2, 3))
HOLE = np.array([[True, True], [False, False], [True, False], [True, True]])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"spectra": np.ones((4, 3))}, r"spectra: \[N, S, L\] was expected, not \[4, 3\]"),
        ({"mask": np.ones((4, 3), dtype=bool)}, r"mask: bool \[4, 2\] was expected"),
        ({"mask": np.ones((4, 2))}, r"mask: bool \[4, 2\] was expected, not float64"),
        ({"mask": HOLE}, "sample 1 has no scan"),
        ({"covariates": np.ones((3, 2))}, "covariates: 3 rows for 4 samples"),
        ({"groups": ["a", "b"]}, "groups: 2 rows for 4 samples"),
        ({"groups": np.ones((4, 2))}, r"groups: \[N\] was expected, not \[4, 2\]"),
        ({"groups": ["a", "b", None, "c"]}, "groups: sample 2 has none"),
        ({"axis": [1.0, 2.0]}, r"axis: \[3\] was expected, not \[2\]"),
        ({"axis": [3.0, 2.0, 1.0]}, "axis: numbers that rise strictly"),
    ],
)
def test_what_does_not_fit_is_refused(given, told):
    with pytest.raises(UsageError, match=told):
        CohortArrays(**{"spectra": SPECTRA, **given}).cohort()


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_intensities_that_are_not_finite_are_refused_in_real_scans_alone(value):
    spectra = SPECTRA.copy()
    spectra[2, 1, 0] = value
    with pytest.raises(UsageError, match="sample 2 holds NaN"):
        CohortArrays(spectra).cohort()
    mask = np.ones((4, 2), dtype=bool)
    mask[2, 1] = False
    CohortArrays(spectra, mask).cohort()


@pytest.mark.parametrize("names", [["sample_id", "b"], ["a", "a"]])
def test_covariates_have_names_of_their_own(names):
    table = pd.DataFrame(np.ones((4, 2)), columns=names)
    with pytest.raises(UsageError, match="covariates: names that differ"):
        CohortArrays(SPECTRA, covariates=table).cohort()
