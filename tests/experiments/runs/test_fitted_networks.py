"""Runs of networks on a linear path, of several members, and of principal components."""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Events
from torch import nn

from datasets.errors import UsageError
from experiments.builders import build_model_and_loss
from experiments.config import check_config
from experiments.run import main
from experiments.runs import Experiment
from models import PCAMLP, LinearPath, Members
from tests.experiments.card_code import check_by_the_card
from tests.experiments.conftest import SMALL_TFT, changed_config, small_settings

MODELS: dict[str, dict[str, Any]] = {
    "tft": {"name": "tft", "params": SMALL_TFT, "linear_path": True, "members": 2},
    "pca_mlp": {
        "name": "pca_mlp",
        "params": {"components": 8, "hidden_dim": 8, "fusion": "separate"},
        "linear_path": True,
        "members": 2,
    },
}
QUICK = {
    "report.enabled": False,
    "report.resamples": 0,
    "audit.enabled": False,
    "checkpoint.every_steps": 1,
    "trainer.max_epochs": 3,
}


def trained(config: Any, run_dir: Path | None = None) -> Experiment:
    experiment = Experiment(config, run_dir)
    experiment.setup()
    experiment.train()
    return experiment


class CrashError(Exception):
    pass


@pytest.fixture(scope="module", params=MODELS)
def finished(
    request: pytest.FixtureRequest, cohort_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Experiment:
    """A run that was killed in its second epoch, resumed and finished."""
    settings = small_settings(cohort_dir, tmp_path_factory.mktemp("runs"))
    settings["model"] = MODELS[request.param]
    config = changed_config(settings, **QUICK)
    cut = Experiment(config)
    cut.setup()

    @cut.trainer.on(Events.ITERATION_STARTED(once=5))
    def crash() -> None:
        raise CrashError

    with pytest.raises(CrashError):
        cut.train()
    cut.close()
    experiment = Experiment(config, cut.run_dir)
    experiment.run()
    return experiment


def test_a_killed_run_ends_as_the_uninterrupted_one(finished: Experiment, tmp_path: Path) -> None:
    settings = finished.config.resolved() | {"runs_dir": str(tmp_path)}
    straight = trained(check_config(settings))
    runs = (straight, finished)
    first, second = (list(csv.DictReader((e.run_dir / "metrics.csv").open())) for e in runs)
    assert len(first) == 3
    assert first == second
    straight.test()
    ours, theirs = straight.trainer.model.state_dict(), finished.trainer.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert straight.results["test"] == finished.results["test"]


def test_the_linear_path_is_trained_around(finished: Experiment) -> None:
    model, train = finished.trainer.model, finished.data.datasets["train"]
    assert isinstance(model, LinearPath)
    assert isinstance(model.network, Members)
    assert train.offset is not None
    assert train.offset.shape == (len(train), 2)
    assert finished.data.datasets["val"].offset is None
    linear = model.predict(train.mean_scans(), train.tabular)
    assert linear.std() > 0.1
    assert not np.allclose(linear, train.offset, atol=0.01)  # out of fold
    parts = [each.state_dict() for each in model.network.networks]
    assert any(not torch.equal(parts[0][name], parts[1][name]) for name in parts[0])


def test_the_card_loads_what_was_packed(
    finished: Experiment, tmp_path: Path, cohort_dir: Path
) -> None:
    with zipfile.ZipFile(finished.run_dir / "small.zip") as archive:
        archive.extractall(tmp_path)
    card = (tmp_path / "model_card.md").read_text()
    name = finished.config.model.name
    assert f"Model: 2 x {name.replace('_', chr(92) + '_')} on a linear model, " in card
    check_by_the_card(tmp_path, cohort_dir)


@pytest.mark.parametrize("change", [("model.members", "3"), ("model.linear_path", "false")])
def test_a_run_is_not_continued_as_another_network(
    finished: Experiment, change: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    key, value = change
    where = [str(finished.run_dir / "config.yaml"), "--resume", str(finished.run_dir)]
    assert main([*where, f"--{key}", value, "--trainer.max_epochs", "9"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert key in line
    assert "holds the weights of the model that it began with" in line


@pytest.mark.parametrize(
    ("name", "seen"), [("spectra_cnn", "spectra"), ("tabular_only", "covariates")]
)
def test_the_linear_model_sees_what_the_network_sees(make_config, name, seen):
    experiment = Experiment(make_config(**{"model": {"name": name, "linear_path": True}, **QUICK}))
    experiment.setup()
    model = experiment.trainer.model
    assert isinstance(model, LinearPath)
    experiment.close()
    other = {"spectra": model.covariates_weight, "covariates": model.spectra_weight}[seen]
    assert other.shape[1] == 0
    assert getattr(model, f"{seen}_weight").any()


class Bare(nn.Module):
    """A network of the user's own, whose last layer has another name."""

    called = "last"

    def __init__(self, spec_len: int, num_classes: int) -> None:
        super().__init__()
        self.add_module(self.called, nn.Linear(spec_len, num_classes))

    def forward(self, spectra, mask, tabular):
        return {"logits": self.get_submodule(self.called)(spectra.mean(dim=1))}


class OwnLoss(Bare):
    """One with a loss of its own."""

    called = "head"

    def compute_loss(self, outputs, targets):
        return {"total_loss": nn.functional.cross_entropy(outputs["logits"], targets)}


def test_a_network_without_a_head_is_one_line(make_config, settings):
    settings["model"] = {"name": f"{__name__}.Bare", "linear_path": True}
    with pytest.raises(UsageError, match=r"^model\.linear_path: Bare has no last layer"):
        Experiment(make_config()).setup()


@pytest.mark.parametrize("more", [{"linear_path": True}, {"members": 2}])
def test_a_networks_own_loss_is_kept(make_config, settings, more):
    settings["model"] = {"name": f"{__name__}.OwnLoss", **more}
    experiment = Experiment(make_config(**QUICK))
    experiment.setup()
    _, loss = build_model_and_loss(experiment.config, experiment.data, torch.device("cpu"))
    experiment.close()
    assert loss.__func__ is OwnLoss.compute_loss


def test_of_many_samples_some_are_fitted_and_all_have_an_offset(make_config, monkeypatch):
    monkeypatch.setattr("experiments.builders.model.MOST_FITTED", 20)
    wanted = {"name": "mean_linear", "linear_path": True}
    experiment = Experiment(make_config(**{"model": wanted, **QUICK}))
    experiment.setup()
    experiment.close()
    train, rows = experiment.data.datasets["train"], experiment.data.draw(20, 1)
    assert 10 < len(rows) <= 20 < len(train)
    others = np.setdiff1d(np.arange(len(train)), rows)
    model = experiment.trainer.model
    assert isinstance(model, LinearPath)
    assert train.offset is not None
    linear = model.predict(train.mean_scans(), train.tabular)
    np.testing.assert_allclose(train.offset[others], linear[others], atol=1e-5)
    assert not np.allclose(train.offset[rows], linear[rows], atol=0.01)


def test_drawn_samples_that_lack_a_class_are_one_line(make_config, monkeypatch):
    monkeypatch.setattr("experiments.builders.model.MOST_FITTED", 1)
    wanted = {"name": "mean_linear", "linear_path": True}
    with pytest.raises(UsageError, match=r"^model: the 1 samples drawn to fit it to lack a class$"):
        Experiment(make_config(**{"model": wanted, **QUICK})).setup()


def test_components_are_fitted_to_the_training_set_alone(make_config):
    experiment = Experiment(make_config(**{"model": {"name": "pca_mlp"}, **QUICK}))
    experiment.setup()
    experiment.close()
    model = experiment.trainer.model
    assert isinstance(model, PCAMLP)
    means = experiment.data.datasets["train"].mean_scans()
    np.testing.assert_allclose(model.scale.center, means.mean(axis=0, dtype=np.float64), atol=1e-5)
