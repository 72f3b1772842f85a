"""A small cohort on disk and the settings that train on it in seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest

from datasets.simulation import simulate_cohort
from experiments.config import Config, check_config, set_key
from experiments.launch import describe_environment
from tests.made_once import made_once

PATIENTS, POINTS = 60, 128
SMALL_TFT = {
    **{"patch_size": 16, "d_model": 16, "num_layers": 1},
    **{"spec_emb": 32, "tab_emb": 16, "fusion_dim": 32, "projection_dim": 16},
}
# Of the automatic treatments the longest.
TREATMENT = [
    "tic",
    {"name": "bin", "params": {"width": 3}},
    "clr",
    {"name": "standardize", "params": {"min_std": 0.1, "relative_to": "median", "clip": 8.0}},
]


@pytest.fixture(scope="session", autouse=True)
def packages_are_listed_once() -> Iterator[None]:
    """Every run lists the installed packages, which takes longer than an epoch does here."""
    environment = sys.modules[describe_environment.__module__]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            environment, "installed_requirements", cache(environment.installed_requirements)
        )
        yield


@pytest.fixture(scope="session")
def cohort_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty simulated patients of one to three scans."""
    root = tmp_path_factory.mktemp("cohorts") / "small"
    return simulate_cohort(root, 3, n_samples=PATIENTS, spec_len=POINTS, max_scans=3).root


@pytest.fixture(scope="session")
def treated_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cohort and its finished run ``runs/small``: two networks on a linear path."""

    def make(folder: Path) -> None:
        cohort = simulate_cohort(folder / "cohort", 3, n_samples=40, spec_len=64, max_scans=3)
        settings = small_settings(cohort.root, folder / "runs")
        changes: dict[str, Any] = {
            "data.transforms": TREATMENT,
            "data.log": ["CRP"],
            "data.covariate_encoding": "piecewise",
            "data.augmentations": [],
            "model": {"name": "tft", "params": SMALL_TFT, "members": 2, "linear_path": True},
            "report.enabled": False,
        }
        from experiments.runs import Experiment

        Experiment(changed_config(settings, **changes)).run()

    return made_once(tmp_path_factory, "exported-run", make)


@pytest.fixture
def settings(cohort_dir: Path, tmp_path: Path) -> dict[str, Any]:
    """Plain values of a configuration that runs in seconds; change them at will."""
    return small_settings(cohort_dir, tmp_path / "runs")


def small_settings(cohort_dir: Path, runs_dir: Path) -> dict[str, Any]:
    """The same, for fixtures of more than one test."""
    return {
        "exp_name": "small",
        "runs_dir": str(runs_dir),
        "seed": 1,
        "data": {
            "root": str(cohort_dir),
            "labels": {"control": 0, "case": 1},
            "augmentations": [{"name": "noise", "params": {"std": 0.1}}],
        },
        "model": {"name": "tft", "params": dict(SMALL_TFT)},
        "trainer": {"max_epochs": 2, "batch_size": 16, "device": "cpu"},
        "report": {"resamples": 50},
        "baselines": {"enabled": False},
    }


@pytest.fixture
def make_config(settings: dict[str, Any]) -> Callable[..., Config]:
    """Build the configuration, with dotted keys changed: ``make_config(**{"seed": 2})``."""

    return partial(changed_config, settings)


def changed_config(settings: dict[str, Any], **changes: Any) -> Config:
    """The configuration of settings, which are changed: ``{"model.name": "tft"}``."""
    for key, value in changes.items():
        set_key(settings, key, value)
    return check_config(settings)
