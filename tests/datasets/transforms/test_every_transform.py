"""What holds of every transform, whatever it does."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from datasets.errors import UsageError
from datasets.transforms import TRANSFORMS, make_transforms
from tests.datasets.transforms.made_spectra import (
    FEWEST_POINTS,
    PARAMS,
    make,
    make_axis,
    ready,
    spectra,
)

INTENSITIES = st.floats(-1e9, 1e9, width=32)


@st.composite
def some_scans(draw: st.DrawFn, fewest: int = 1) -> np.ndarray:
    """Scans of any values, one, some, or some of some samples; the points are few or some."""
    points = draw(st.integers(fewest, 24))
    leading = draw(st.sampled_from([(), (1,), (3,), (2, 2)]))
    return draw(arrays(np.float32, (*leading, points), elements=INTENSITIES))


@pytest.mark.slow
@pytest.mark.parametrize("name", TRANSFORMS)
@settings(max_examples=40)
@given(data=st.data())
def test_type_finiteness_and_declared_length_are_kept(name, data):
    scans = data.draw(some_scans(FEWEST_POINTS.get(name, 1)))
    before, transform = scans.copy(), ready(name, scans.shape[-1])
    out = transform(scans)
    assert out.shape == (*scans.shape[:-1], transform.spec_len)
    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    np.testing.assert_array_equal(scans, before)
    assert not np.shares_memory(out, scans)


@pytest.mark.parametrize("name", TRANSFORMS)
@settings(max_examples=20)
@given(data=st.data())
def test_a_saved_state_is_all_it_takes_to_do_the_same_again(name, data):
    scans = data.draw(some_scans(FEWEST_POINTS.get(name, 1)))
    fitted, file = ready(name, scans.shape[-1]), io.BytesIO()
    torch.save(fitted.state_dict(), file)
    file.seek(0)
    loaded = make(name)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    np.testing.assert_array_equal(loaded(scans), fitted(scans))
    assert fitted.axis is not None
    assert loaded.axis is not None
    np.testing.assert_array_equal(loaded.axis, fitted.axis)
    assert loaded.axis.dtype == fitted.axis.dtype


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("value", [0.0, 1e-45, 7.0, -3.0])
@pytest.mark.parametrize("points", [3, 30])
def test_a_constant_scan_stays_finite(name, value, points):
    assert np.isfinite(ready(name, points)(np.full((2, points), value, np.float32))).all()


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_scan_comes_out_the_same_alone_and_among_others(name):
    scans, transform = spectra(points=2048), ready(name, 2048)
    together = transform(scans)
    alone = np.stack([transform(scan) for scan in scans[:20]])
    np.testing.assert_array_equal(together[:20], alone)
    np.testing.assert_array_equal(together[13:20], transform(scans[13:20]))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_it_leaves_no_scan_as_it_was(name):
    scans = spectra(points=200)
    out = ready(name, 200)(scans)
    assert out.shape != scans.shape or not np.array_equal(out, scans)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_no_scans_are_none_again(name):
    transform = ready(name, 30)
    assert transform(np.zeros((0, 30), np.float32)).shape == (0, transform.spec_len)


@pytest.mark.parametrize(("name", "fewest"), FEWEST_POINTS.items())
def test_too_short_an_axis_is_refused(name, fewest):
    with pytest.raises(UsageError, match=f"{name}: an axis of"):
        make(name).bind(make_axis(fewest - 1))


@pytest.mark.parametrize("name", ["crop", "resample", "align"])
def test_what_needs_the_axis_says_so(name):
    with pytest.raises(RuntimeError, match=f"{name} is called before it was given the axis"):
        make(name)(spectra())
    with pytest.raises(UsageError, match=f"{name} was given an axis of 30 points; these .* 31"):
        ready(name, 30)(spectra(points=31))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_an_unknown_parameter_is_named(name):
    wrong = {**PARAMS.get(name, {}), "colour": 1}
    with pytest.raises(UsageError, match=f"transform '{name}' has no parameter 'colour'"):
        make_transforms([{"name": name, "params": wrong}])


@pytest.mark.parametrize(
    ("name", "params", "said"),
    [
        ("savgol", {"window": 10}, r"savgol\.window: an odd number was expected, 9 or 11, not 10"),
        ("savgol", {"window": 2.5}, r"savgol\.window: a whole number at least 3 .* not 2.5"),
        ("savgol", {"window": 5, "order": 5}, r"savgol\.order: a whole number between 0 and 4"),
        ("snip", {"half_window": 0}, r"snip\.half_window: a whole number at least 1"),
        ("tophat", {"half_window": "x"}, r"tophat\.half_window: a whole number at least 1"),
        ("asls", {"p": 0}, r"asls\.p: a number between 0.0001 and 0.5 was expected, not 0"),
        ("asls", {"lam": 1e11}, r"asls\.lam: a number between 1 and 1e\+10"),
        ("asls", {"max_iter": 0}, r"asls\.max_iter: a whole number at least 1"),
        ("crop", {}, "crop: low, high or both were expected"),
        ("crop", {"low": "x"}, r"crop\.low: a number was expected, not 'x'"),
        ("crop", {"low": 3, "high": 3}, r"crop\.high: a number above low, 3, was expected, not 3"),
        ("resample", {}, "resample: either points or step was expected"),
        ("resample", {"points": 5, "step": 1}, "resample: either points or step was expected"),
        ("resample", {"points": 1}, r"resample\.points: a whole number between 2 and 1e\+06"),
        ("resample", {"step": 0}, r"resample\.step: a number above 0 was expected, not 0"),
        (
            "align",
            {"max_shift": 0},
            r"align\.max_shift: a number of points above 0 .* '500ppm', not",
        ),
        ("align", {"max_shift": "9pm"}, r"align\.max_shift: .* not '9pm'"),
        ("align", {"max_shift": "xppm"}, r"align\.max_shift: .* not 'xppm'"),
        ("align", {"warp": "lin"}, r"align\.warp: there is no 'lin'; did you mean 'linear'\?"),
        ("align", {"scale": "log"}, r"align\.scale: there is no 'log' \(choices: linear, sqrt\)"),
        ("align", {"warp": "quadratic", "min_matches": 2}, r"align\.min_matches: .* at least 3"),
        ("align", {"reference": 5}, r"align\.reference: a list of numbers was expected, not 5"),
        ("align", {"reference": [1, "b", 3]}, r"align\.reference\.1: a number was expected"),
        ("align", {"reference": [1, 1, 2]}, r"align\.reference: at least 3 places .* not 2"),
        ("align", {"min_frequency": 2}, r"align\.min_frequency: a number between 0 and 1"),
        ("pick_peaks", {"snr": -1}, r"pick_peaks\.snr: a number at least 0"),
        ("pick_peaks", {"half_window": 0}, r"pick_peaks\.half_window: a whole number at least 1"),
        ("pick_peaks", {"width": -1}, r"pick_peaks\.width: a whole number at least 0"),
        ("bin", {"width": 0}, r"bin\.width: a whole number between 1 and 1e\+06"),
        ("bin", {"width": 2.5}, r"bin\.width: a whole number .* not 2.5"),
        ("log", {"quantile": 5}, r"log\.quantile: a number between 0 and 1 was expected, not 5"),
        ("clr", {"quantile": None}, r"clr\.quantile: a number between 0 and 1 .* not None"),
        ("standardize", {"min_std": -1}, r"standardize\.min_std: a number between 0 and 1"),
        ("standardize", {"clip": 0}, r"standardize\.clip: a number above 0 was expected, not 0"),
        (
            "standardize",
            {"relative_to": "mean"},
            r"standardize\.relative_to: there is no 'mean'; did you mean 'median'\?",
        ),
        ("snap", {}, r"unknown transform 'snap'; did you mean 'snip'\?"),
    ],
)
def test_a_wrong_parameter_is_one_line(name, params, said):
    with pytest.raises(UsageError, match=said) as error:
        make_transforms([{"name": name, "params": params}])
    assert "\n" not in str(error.value)
