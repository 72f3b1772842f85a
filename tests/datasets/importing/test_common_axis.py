from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.errors import CohortError
from datasets.importing.choices import AGGREGATES
from datasets.importing.scan_intake import CommonAxis, OwnAxis, parse_axis
from datasets.readers import RawScan


def scan_of(mz, intensity, centroid=None):
    return RawScan("S1", "0", np.array(mz), np.array(intensity), "S1.txt", centroid=centroid)


def common(text) -> CommonAxis:
    axis = parse_axis(text)
    assert isinstance(axis, CommonAxis)
    return axis


# The axis


@pytest.mark.parametrize(
    ("text", "count", "last"),
    [
        ("2000:20000:3", 6000, 19997.0),
        ("0:1:0.1", 10, 0.9),
        ("-5:5:2.5", 4, 2.5),
        ("10:11:5", 1, 10.0),
    ],
)
def test_points_run_from_start_by_step_and_stop_before_stop(text, count, last):
    axis = common(text)
    assert len(axis.points) == count
    assert axis.points[-1] == pytest.approx(last)
    np.testing.assert_allclose(axis.edges[1:] - axis.edges[:-1], axis.edges[1] - axis.edges[0])
    np.testing.assert_allclose((axis.edges[1:] + axis.edges[:-1]) / 2, axis.points, atol=1e-9)


def test_a_step_in_ppm_grows_with_the_position():
    axis = common("1000:2000:500ppm")
    np.testing.assert_allclose(axis.points[1:] / axis.points[:-1], 1.0005)
    assert axis.points[-1] < 2000 <= axis.points[-1] * 1.0005
    np.testing.assert_allclose(axis.edges[:-1] * axis.edges[1:], axis.points**2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2000-20000", "START:STOP:STEP was expected"),
        ("1:2", "START:STOP:STEP was expected"),
        ("a:b:c", "START:STOP:STEP was expected"),
        ("20:10:1", "STOP must lie above START"),
        ("10:20:0", "STEP above 0"),
        ("10:inf:1", "STOP must lie above START"),
        ("0:10:5ppm", "START must lie above 0"),
        ("0:1e9:0.1", "has 1e+10 points"),
        ("20000:20001:0.0001", "too small for float32"),
    ],
)
def test_what_is_no_axis_is_refused(text, message):
    with pytest.raises(CohortError) as caught:
        parse_axis(text)
    assert message in str(caught.value)


# Scans on it

scans = st.lists(st.tuples(st.floats(0, 30), st.floats(-1e6, 1e6)), min_size=0, max_size=60).map(
    sorted
)


@given(scans, st.sampled_from(["mean", "sum", "max"]))
def test_each_bin_aggregates_exactly_the_points_in_it(pairs, aggregate):
    axis = common("5:20:2")
    scan = scan_of([x for x, _ in pairs], [y for _, y in pairs])
    expected: list[float] = []
    for low, high in zip(axis.edges[:-1], axis.edges[1:], strict=True):
        inside = [y for x, y in pairs if low <= x < high]
        total = max(inside) if aggregate == "max" and inside else sum(inside)
        expected.append(total / len(inside) if aggregate == "mean" and inside else total)
    np.testing.assert_allclose(axis.place(scan, aggregate), expected, rtol=1e-9, atol=1e-6)
    assert axis.empty_bins(scan) == sum(
        not any(low <= x < high for x, _ in pairs)
        for low, high in zip(axis.edges[:-1], axis.edges[1:], strict=True)
    )
    covered = [axis.edges[0] <= x < axis.edges[-1] for x, _ in pairs]
    assert axis.covered(scan).tolist() == covered


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_a_scan_without_points_is_nothing_but_0(aggregate):
    assert not common("5:20:2").place(scan_of([], []), aggregate).any()


def test_interpolation_is_linear_and_0_outside():
    placed = common("0:6:1").place(scan_of([1.0, 3.0, 4.0], [10.0, 30.0, 0.0]), "interpolate")
    assert placed.tolist() == [0.0, 10.0, 20.0, 30.0, 0.0, 0.0]


def test_between_peaks_nothing_is_interpolated():
    with pytest.raises(CohortError, match=r"list of peaks.*choose sum or max"):
        common("0:6:1").place(scan_of([1.0], [1.0], centroid=True), "interpolate")


# An axis of the scans' own


def test_the_first_scans_axis_is_kept_and_the_scans_as_they_are():
    axis = parse_axis("own")
    assert isinstance(axis, OwnAxis)
    assert axis.place(scan_of([1.0, 2.0], [5.0, 6.0]), "").tolist() == [5.0, 6.0]
    np.testing.assert_array_equal(axis.points, [1.0, 2.0])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mz", "said"),
    [
        ([1.0, 2.00000001], "point 1 is 2.00000001, that of S1.txt is 2;"),
        ([1.0, 2.0, 3.0], "3 points, that of S1.txt 2;"),
        ([], "0 points, that of S1.txt 2;"),
    ],
)
def test_mixed_axes_are_refused(mz, said):
    axis = OwnAxis()
    axis.place(scan_of([1.0, 2.0], [5.0, 6.0]), "")
    with pytest.raises(CohortError, match=r"mixed axes: .*START:STOP:STEP") as caught:
        axis.place(scan_of(mz, mz), "")
    assert said in str(caught.value)


@pytest.mark.parametrize("mz", [[], [1.0, 1.0], [1e6, 1e6 + 1e-4]])
def test_an_axis_that_a_cohort_cannot_have_is_refused(mz):
    with pytest.raises(CohortError, match="does not rise"):
        OwnAxis().place(scan_of(mz, mz), "")
