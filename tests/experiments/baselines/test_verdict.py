"""The verdict sentence: by the paired interval, with the figures it rests on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.statistics import Interval
from experiments.baselines import (
    Entry,
    Leaderboard,
    compare_with_baselines,
    leaderboard_lines,
    leaderboard_section,
    verdict,
)
from experiments.config import check_config
from tests.experiments.made_runs import drawn

NETWORK = Entry("tft", 0.86, Interval(0.8624, 0.83, 0.89), {})
BEST = Entry("covariates_extra_trees", 0.9, Interval(0.8911, 0.87, 0.91), {})
OTHER = Entry("spectra_svm", 0.8, Interval(0.95, 0.9, 0.99), {})
BOARD = Leaderboard(
    "auroc", NETWORK, [BEST, OTHER], Interval(-0.0287, -0.0441, -0.0102, 1000, "bootstrap")
)


def test_a_leaderboard_is_shown_as_a_line_or_a_table() -> None:
    figures = "metric=auroc, tft=0.8624, covariates_extra_trees=0.8911, outcome=does_not_beat"
    assert repr(BOARD) == f"Leaderboard({figures})"
    table = BOARD._repr_html_()
    assert "<caption>Leaderboard, auroc</caption>" in table
    row = "<tr><th>spectra_svm</th><td>0.8000</td><td>0.9500 (0.900 to 0.990)</td></tr>"
    assert row in table


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        (
            (-0.0287, -0.0441, -0.0102),
            "tft does not beat extra trees on covariates: auroc 0.862 against 0.891, difference "
            "-0.029 (-0.044 to -0.010)",
        ),
        (
            (-0.0287, -0.0441, 0.0102),
            "tft does not differ significantly from extra trees on covariates: auroc 0.862 against "
            "0.891, difference -0.029 (-0.044 to +0.010)",
        ),
        (
            (0.0287, 0.0102, 0.0441),
            "tft beats extra trees on covariates: auroc 0.862 against 0.891, difference +0.029 "
            "(+0.010 to +0.044)",
        ),
    ],
    ids=["loses", "open", "beats"],
)
def test_the_interval_decides(bounds: tuple[float, float, float], expected: str) -> None:
    found = Interval(*bounds, 1000, "bootstrap")
    assert verdict(replace(BOARD, difference=found)) == expected


def test_a_smaller_error_is_better() -> None:
    entry = Entry("tft", 3.0, Interval(3.0), {})
    ridge = Entry("spectra_ridge", 4.0, Interval(4.0), {})
    found = Interval(-1.0, -1.5, -0.5, 1000, "bootstrap")
    assert verdict(Leaderboard("mae", entry, [ridge], found)).startswith("tft beats ridge")


def test_without_bounds_nothing_is_claimed() -> None:
    told = verdict(replace(BOARD, difference=Interval(0.1, method="too_few")))
    assert told.startswith("too few samples to tell whether tft beats extra trees on covariates")


def test_the_network_stands_first_and_the_verdict_last() -> None:
    lines = leaderboard_lines(BOARD)
    assert lines[1].startswith("tft")
    # In the order of validation, although another was better on the test set.
    assert lines[2].startswith("extra trees on covariates")
    assert lines[-1].startswith("verdict: tft does not beat")


def test_a_network_called_as_a_baseline_keeps_its_own_name() -> None:
    network, best = (replace(entry, name="late_fusion") for entry in (NETWORK, BEST))
    both = replace(BOARD, network=network, baselines=[best])
    first, second = leaderboard_lines(both)[1:3]
    assert first.startswith("late_fusion ")
    assert second.startswith("late fusion ")


def test_without_resamples_it_is_not_the_samples_that_are_too_few() -> None:
    board = replace(BOARD, difference=Interval(-0.0287))
    assert board.outcome == "untested"
    assert verdict(board).startswith("tft and extra trees on covariates without a test")


@pytest.mark.parametrize(
    ("skill", "sentence", "sign"),
    [(6.0, "tft beats linear SVM on spectra", "+"), (0.1, "tft does not beat linear SVM", "-")],
    ids=["wins", "loses"],
)
def test_predictions_decide_against_the_best_on_validation(
    skill: float, sentence: str, sign: str
) -> None:
    config = check_config({"report": {"resamples": 200}})
    network = {part: drawn("binary", seed, skill, 200) for part, seed in (("val", 1), ("test", 2))}
    # The other baseline would be the best if the test set chose it.
    skills = {"spectra_svm": (1.5, 1.5), "covariates_logistic": (0.8, 9.0)}
    baselines = {
        part: {n: drawn("binary", 10 + k, of[k], 200) for n, of in skills.items()}
        for k, part in enumerate(("val", "test"))
    }
    groups = list(network["test"].sample_id)
    board = compare_with_baselines(config, network, baselines, groups)
    assert board.best.name == "spectra_svm"
    assert board.best.test.value < board.baselines[1].test.value
    told = verdict(board)
    assert told.startswith(sentence)
    assert f"difference {sign}" in told
    section = leaderboard_section(board)
    assert section.index(f"Verdict: {told}.") < section.index("| tft |")
    assert leaderboard_lines(board)[-1] == f"verdict: {told}"
