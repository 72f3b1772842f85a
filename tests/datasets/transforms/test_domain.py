from __future__ import annotations

import numpy as np
import pytest

from datasets.audit import check_transforms
from datasets.transforms import find_out_of_domain, make_transforms
from tests.datasets.transforms.made_spectra import make_axis, spectra
from tests.experiments.report.said_in_chinese import english_left

ROWS, POINTS = 40, 60


def centred():
    scans = spectra(ROWS, POINTS)
    return scans - scans.mean(axis=1, keepdims=True)


def sparse():
    scans = np.zeros((ROWS, POINTS), np.float32)
    scans[:, ::7] = spectra(ROWS, POINTS)[:, ::7]
    return scans


def some_empty():
    scans = spectra(ROWS, POINTS)
    scans[:10] = 0
    return scans


def found_in(scans, *steps):
    transforms = make_transforms(list(steps)).fit(scans, axis=make_axis(POINTS))
    return find_out_of_domain(transforms, scans, np.arange(len(scans)))


def window(name, **params):
    return {"name": name, "params": params}


@pytest.mark.parametrize("name", ["sqrt", "log", "log1p", "clr"])
def test_negative_intensities_are_refused_by_their_share(name):
    scans = centred()
    (found,) = found_in(scans, "tic", name)
    assert found.name == {"log": "log1p"}.get(name, name)
    assert found.level == "refuse"
    assert found.share == pytest.approx((scans < 0).mean())
    assert f"{(scans < 0).mean():.1%} of the intensities, 50.0% of their total" in found.sentence
    assert "snv" in found.sentence


def test_noise_around_a_baseline_is_warned_of():
    scans = spectra(ROWS, POINTS)
    scans[:, :20] = np.random.default_rng(0).normal(0, 5, (ROWS, 20))
    (found,) = found_in(scans, "sqrt")
    assert (found.level, found.share) == ("warn", pytest.approx(1 / 6, abs=0.03))


@pytest.mark.parametrize(
    ("scans", "steps", "said"),
    [
        (some_empty, ["tic"], "tic: 25.0% of the scans hold no signal"),
        (some_empty, ["vector"], "vector: 25.0% of the scans hold no signal"),
        (some_empty, ["snv"], "snv: 25.0% of the scans are constant and become 0"),
        (sparse, ["median"], "median: 100.0% of the scans have a median of 0"),
        (centred, [window("savgol", window=61)], "savgol: 100.0% of the scans are shorter than"),
        (centred, [window("snip", half_window=30)], "give a smaller snip.half_window"),
        (centred, [window("tophat", half_window=99)], "the window of 199 points"),
        (centred, [window("crop", low=500)], "do not reach from 500, as crop asks for"),
        (centred, [window("crop", low=1200, high=3000)], "do not reach from 1200 to 3000"),
        (centred, [window("crop", high=3000)], "do not reach to 3000, as crop asks for"),
        (sparse, ["standardize"], "standardize: 85.0% of the points never vary"),
    ],
)
def test_unsuitable_input_is_named_in_both_languages(scans, steps, said):
    (found,) = found_in(scans(), *steps)
    assert said in found.sentence
    assert found.level != "refuse"
    (finding,) = check_transforms([found])
    assert finding.name == f"transforms:{found.name}"
    assert (
        english_left(
            [found.sentence],
            {found.name, "savgol.window", "snip.half_window", "tophat.half_window"},
        )
        == {}
    )


def test_transforms_that_leave_every_scan_the_same_are_refused():
    (*_, found) = found_in(spectra(ROWS, POINTS), window("crop", low=1000, high=1001), "snv")
    assert found.level == "refuse"
    assert "every scan is the same" in found.sentence


@pytest.mark.parametrize("steps", [["tic", "sqrt", "standardize"], ["savgol", "snv"], [], ["log"]])
def test_of_what_suits_the_transforms_nothing_is_said(steps):
    assert found_in(spectra(ROWS, POINTS), *steps) == []
    assert found_in(spectra(ROWS, POINTS), window("crop", low=1000, high=2005), *steps) == []
