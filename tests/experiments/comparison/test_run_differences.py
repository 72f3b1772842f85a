from __future__ import annotations

import pytest

from experiments.comparison.run_differences import differing_settings, differing_surroundings
from experiments.run_files import read_runs
from tests.experiments.made_runs import ENVIRONMENT, drawn, make_run


@pytest.fixture
def runs(tmp_path):
    """Runs with these settings, and with changes to their environment under that name."""

    def make(**made):
        return read_runs(
            [make_run(tmp_path / name, drawn("binary"), **given) for name, given in made.items()]
        )

    return make


def test_only_settings_that_differ_are_listed_by_their_dotted_keys(runs):
    found = differing_settings(
        runs(
            a={"optimizer__lr": 1e-3, "seed": 3, "data__split__seed": 1},
            b={"optimizer__lr": 3e-4, "seed": 3, "data__split__seed": 2},
            c={"optimizer__lr": 1e-3, "seed": 3, "data__split__seed": 1},
        )
    )
    assert found == {
        "data.split.seed": ["1", "2", "1"],
        "optimizer.lr": ["0.001", "0.0003", "0.001"],
    }


def test_a_key_that_a_run_lacks_is_told_from_one_that_is_null(runs):
    found = differing_settings(
        runs(
            a={"model": {"name": "tft", "params": {"d_model": 16}}, "ema__decay": 0.9},
            b={"model": {"name": "tft", "params": {}}},
        )
    )
    assert found == {"model.params.d_model": ["16", "-"], "ema.decay": ["0.9", "null"]}


def test_a_list_is_one_value(runs):
    found = differing_settings(runs(a={"metrics": ["auroc"]}, b={"metrics": ["auroc", "brier"]}))
    assert found == {"metrics": ['["auroc"]', '["auroc", "brier"]']}


def test_names_and_places_are_no_differences(runs):
    assert differing_settings(runs(a={"runs_dir": "/here"}, b={"runs_dir": "/there"})) == {}


def test_code_versions_and_data_are_compared_and_the_machine_is_not(runs):
    other = {
        "commit": "2" * 40,
        "host": "elsewhere",
        "packages": {**ENVIRONMENT["packages"], "torch": "2.14.0"},
        "data": {**ENVIRONMENT["data"], "spectra.npy": "c" * 64},
    }
    assert differing_surroundings(runs(a={}, b={"environment": other})) == {
        "commit": ["1" * 12, "2" * 12],
        "packages.torch": ["2.13.0", "2.14.0"],
        "data.spectra.npy": ["b" * 12, "c" * 12],
    }
