"""A packaged run of seconds, made once."""

from __future__ import annotations

import pytest

from datasets.simulation import simulate_cohort
from experiments.config import check_config
from experiments.runs import Experiment
from tests.experiments.conftest import small_settings
from tests.made_once import made_once


@pytest.fixture(scope="session")
def packaged_run(tmp_path_factory):
    """A folder with a cohort, ``cohort``, and the run ``runs/small`` with its package."""

    def make(folder):
        simulate_cohort(folder / "cohort", 3, n_samples=40, spec_len=64, max_scans=2)
        settings = small_settings(folder / "cohort", folder / "runs")
        settings["report"]["enabled"] = False
        Experiment(check_config(settings)).run()

    return made_once(tmp_path_factory, "packaged_run", make)
