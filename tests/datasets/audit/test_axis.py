from __future__ import annotations

import numpy as np
import pytest


def test_an_axis_even_in_its_square_root_is_left_in_peace(find):
    assert not [name for name in find() if name.startswith("axis:")]


def test_a_gap_is_noted_with_its_place(find):
    def put(files):
        files.axis = files.axis.copy()
        files.axis[120:] += 4000

    found = find(put)["axis:gaps"]
    assert (found.level, found.number) == ("note", 1)
    assert "1 gap" in found.sentence


def test_points_that_all_but_repeat_each_other_are_warned_of(find):
    def put(files):
        files.axis = files.axis.copy()
        for point in (50, 60, 70):
            files.axis[point] = files.axis[point - 1] + 0.01

    found = find(put)["axis:crowded"]
    assert (found.level, found.number) == ("warn", 3)


def test_a_column_that_stands_twice_is_warned_of(find):
    def put(files):
        files.spectra[:, 40] = files.spectra[:, 39]

    found = find(put)["axis:copies"]
    assert (found.level, found.number) == ("warn", 1)


def test_an_axis_of_one_point_is_none_to_judge(find):
    def put(files):
        files.axis, files.spectra = np.array([1000.0]), files.spectra[:, :1]

    assert not [name for name in find(put) if name.startswith("axis:")]


def move_cases(points):
    def put(files):
        at = np.arange(files.spectra.shape[1]) - points
        for row in np.flatnonzero(files.is_case_scan):
            files.spectra[row] = np.interp(at, np.arange(len(at)), files.spectra[row])

    return put


@pytest.mark.parametrize(("points", "side"), [(0.5, "right"), (-0.5, "left"), (1.0, "right")])
def test_a_shift_of_a_class_is_found_with_its_side(find, points, side):
    found = find(move_cases(points))["axis_shift"]
    assert found.level == "warn"
    assert side in found.sentence


def test_a_shift_as_small_as_that_of_peaks_is_not_reported(find):
    assert "axis_shift" not in find(move_cases(0.02))


def test_shifts_independent_of_the_class_are_not_reported(find):
    def put(files):
        rng = np.random.default_rng(0)
        at = np.arange(files.spectra.shape[1])
        for row in range(len(files.spectra)):
            files.spectra[row] = np.interp(at - rng.normal(), at, files.spectra[row])

    assert "axis_shift" not in find(put)


def test_other_peaks_of_a_class_are_no_shift(find):
    def put(files):
        # Twenty peaks of cases have a neighbour to their right, others one to their left.
        rng = np.random.default_rng(0)
        cases = files.is_case_scan
        for number, point in enumerate(rng.choice(np.arange(5, 250), 40, replace=False)):
            to = point + (2 if number % 2 else -2)
            files.spectra[cases, to] += files.spectra[cases, point]

    assert "axis_shift" not in find(put)
