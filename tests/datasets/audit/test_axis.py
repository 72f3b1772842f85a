from __future__ import annotations

import numpy as np


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
