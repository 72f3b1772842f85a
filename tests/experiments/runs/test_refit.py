"""A refit: trained on the training and validation sets, as long as up to the selected epoch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from ignite.engine import Events
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score

from datasets.covariates import CovariateEncoder
from datasets.errors import UsageError
from engine import TrainEvents
from engine.checkpointing import load_checkpoint
from experiments.config import Config, load_config
from experiments.run import main
from experiments.run_files import is_finished
from experiments.runs import Experiment, experiment
from experiments.runs.refit import begin_refit
from tests.experiments.conftest import changed_config, small_settings

pytestmark = pytest.mark.slow

MakeConfig = Callable[..., Config]
FEW = ["spectra_pca_logistic", "covariates_logistic", "late_fusion"]
CHANGES: dict[str, Any] = {
    "trainer.max_epochs": 4,
    "ema.decay": 0.9,
    # The second epoch is selected: its last rate is the highest.
    "checkpoint": {"monitor": "lr", "mode": "max"},
    "lr_scheduler": {"warmup_steps": 5},
    "optimizer.lr": 0.003,
    "baselines": {"models": FEW},
    "report.attribution.method": None,
}


@pytest.fixture(scope="module")
def pair(cohort_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, ...]:
    """The same run without and with a refit."""
    runs = tmp_path_factory.mktemp("runs")
    found = []
    for refit in (False, True):
        settings = small_settings(cohort_dir, runs)
        found.append(Experiment(changed_config(settings, **CHANGES, **{"trainer.refit": refit})))
        found[-1].run()
    return tuple(found)


def weights(run_dir: Path) -> torch.Tensor:
    saved = load_file(run_dir / "checkpoints" / "model.safetensors")
    return torch.cat([saved[name].flatten().float() for name in sorted(saved)])


def test_both_sets_are_trained_on_as_long_as_up_to_the_selected_epoch(
    pair: tuple[Experiment, ...],
) -> None:
    plain, refit = pair
    best = load_checkpoint(plain.run_dir / "checkpoints" / "best.pt")["states"]["trainer"]
    epochs = best["iteration"] // best["epoch_length"]
    assert epochs == 2 < plain.trainer.epochs_done()
    assert refit.selected is not None
    assert refit.selected.epochs == refit.trainer.epochs_done() == epochs
    samples = len(plain.data.datasets["train"]) + len(plain.data.datasets["val"])
    assert len(refit.data.datasets["train"]) == samples
    assert refit.trainer.state.optimizer_step == epochs * -(-samples // 16)
    seen = {*plain.data.datasets["train"].sample_ids, *plain.data.datasets["val"].sample_ids}
    assert set(refit.data.datasets["train"].sample_ids) == seen
    assert not seen & set(refit.data.datasets["test"].sample_ids)


def test_encoder_and_transforms_are_fitted_anew(pair: tuple[Experiment, ...]) -> None:
    plain, refit = pair
    fitted = torch.load(refit.run_dir / "preprocessing.pt", weights_only=True)
    encoder = CovariateEncoder.from_state_dict(fitted["covariates"])
    cohort = refit.data.cohort
    seen = encoder.transform(cohort.samples[np.isin(refit.data.split, ["train", "val"])])
    age = encoder.feature_names.index("age")
    assert abs(seen[:, age].mean()) < 1e-4
    scans = np.array(cohort.spectra[:3])
    assert not np.allclose(refit.data.transforms(scans), plain.data.transforms(scans))


def test_figures_of_both_are_kept(pair: tuple[Experiment, ...]) -> None:
    plain, refit = pair
    metrics = json.loads((refit.run_dir / "metrics.json").read_text())["test"]
    assert refit.results["val"] == pytest.approx(plain.results["val"], nan_ok=True)
    of_selected = metrics["selected"]["metrics"]
    defined = {name: value for name, value in plain.results["test"].items() if value == value}
    assert {name: of_selected[name] for name in defined} == pytest.approx(defined)
    assert metrics["metrics"]["loss"] != plain.results["test"]["loss"]
    table = pd.read_csv(refit.run_dir / "predictions.csv")
    found = roc_auc_score(table["target"] == "case", table["prob_case"])
    assert found == pytest.approx(metrics["metrics"]["auroc"])
    summary = (refit.run_dir / "summary.md").read_text()
    assert "| test, selected weights | test, refitted |" in summary
    assert "weights, page and package are of the refitted model" in " ".join(summary.split())
    assert (
        "a refit on the training and validation sets"
        in (refit.run_dir / "model_card.md").read_text()
    )


def test_validation_predictions_are_of_weights_that_never_saw_them(
    pair: tuple[Experiment, ...],
) -> None:
    plain, refit = (pd.read_csv(run.run_dir / "predictions_val.csv") for run in pair)
    assert refit.equals(plain)
    plain, refit = (pd.read_csv(run.run_dir / "predictions_val_baselines.csv") for run in pair)
    assert refit.equals(plain)


def test_baselines_are_chosen_before_and_refitted_too(pair: tuple[Experiment, ...]) -> None:
    plain, refit = pair
    assert plain.leaderboard is not None
    assert refit.leaderboard is not None
    assert refit.baselines is not None
    assert plain.baselines is not None
    assert [e.name for e in refit.leaderboard.baselines] == [
        e.name for e in plain.leaderboard.baselines
    ]
    assert refit.leaderboard.best.val == plain.leaderboard.best.val
    assert refit.baselines.fused == plain.baselines.fused
    for before, now in zip(plain.leaderboard.baselines, refit.leaderboard.baselines, strict=True):
        assert before.metrics["test"] != now.metrics["test"]
    told = "For the test the network and the baselines are refitted"
    assert told in (refit.run_dir / "summary.md").read_text()
    assert told not in (plain.run_dir / "summary.md").read_text()


class CutError(Exception):
    """Raised within a refit."""


@pytest.fixture
def cut_refit(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Let the next refit end with an error after so many iterations."""

    def cut_at(iteration: int) -> None:
        def begin(trainer: Any, *others: Any) -> None:
            begin_refit(trainer, *others)

            @trainer.on(Events.ITERATION_STARTED(once=iteration + 1))
            def cut() -> None:
                raise CutError

        monkeypatch.setattr(experiment, "begin_refit", begin)

    yield cut_at
    monkeypatch.undo()


@pytest.mark.parametrize("iteration", [0, 3, 5])
def test_a_run_cut_within_its_refit_ends_with_the_same_weights(
    pair: tuple[Experiment, ...],
    make_config: MakeConfig,
    cut_refit: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    iteration: int,
) -> None:
    changes = {**CHANGES, "trainer.refit": True, "checkpoint.every_steps": 1}
    cut = Experiment(make_config(**changes))
    cut_refit(iteration)
    with pytest.raises(CutError):
        cut.run()
    saved = cut.run_dir / "refit" / "checkpoints" / "last.pt"
    if iteration:
        assert load_checkpoint(saved)["states"]["trainer"]["iteration"] == iteration
    assert not is_finished(cut.run_dir)
    monkeypatch.undo()
    resumed = Experiment(load_config(str(cut.run_dir / "config.yaml")), cut.run_dir)
    resumed.run()
    assert torch.equal(weights(cut.run_dir), weights(pair[1].run_dir))
    assert is_finished(cut.run_dir)
    assert (cut.run_dir / "predictions.csv").read_bytes() == (
        pair[1].run_dir / "predictions.csv"
    ).read_bytes()


def test_a_refit_that_diverged_is_not_tested(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin(trainer: Any, *others: Any) -> None:
        begin_refit(trainer, *others)

        @trainer.on(TrainEvents.GRADIENTS_READY)
        def spoil() -> None:
            for parameter in trainer.model.parameters():
                parameter.grad.fill_(float("nan"))

    monkeypatch.setattr(experiment, "begin_refit", begin)
    run = Experiment(make_config(**{"trainer.refit": True, "report.enabled": False}))
    with pytest.raises(UsageError, match="the refit diverged"):
        run.run()
    assert not list(run.run_dir.rglob("*.safetensors"))


def test_a_refit_of_another_training_is_not_continued(make_config: MakeConfig) -> None:
    off = {"report.enabled": False, "trainer.refit": True, "trainer.max_epochs": 1}
    first = Experiment(make_config(**off, **{"checkpoint.monitor": "last"}))
    first.run()
    mark = first.run_dir / "refit" / "mark"
    mark.touch()
    longer = load_config(str(first.run_dir / "config.yaml"), [("trainer.max_epochs", "2")])
    again = Experiment(longer, first.run_dir)
    again.run()
    assert again.selected is not None
    assert again.selected.epochs == 2
    assert not mark.exists()


def test_a_finished_run_is_refitted_later(
    make_config: MakeConfig, pair: tuple[Experiment, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    run = Experiment(make_config(**CHANGES, **{"report.enabled": False}))
    run.run()
    code = main(
        [str(run.run_dir / "config.yaml"), "--resume", str(run.run_dir), "--trainer.refit", "true"]
    )
    assert code == 0
    told = capsys.readouterr().out
    assert "test, refit" in told
    assert "page and package are of the refitted model" in told
    assert torch.equal(weights(run.run_dir), weights(pair[1].run_dir))


def test_a_dry_run_tells_of_the_refit(
    settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "small.json"
    file.write_text(json.dumps(settings))
    assert main([str(file), "--dry-run", "--trainer.refit", "true"]) == 0
    told = capsys.readouterr().out
    assert "refit: after the selection the model is trained anew on the 52 samples" in told
    assert main([str(file), "--dry-run"]) == 0
    assert "refit" not in capsys.readouterr().out


def test_who_follows_the_validation_set_is_refused(make_config: MakeConfig) -> None:
    config = make_config(**{"trainer.refit": True, "lr_scheduler": {"name": "plateau"}})
    with pytest.raises(UsageError, match=r"lr_scheduler\.params\.monitor: 'val/loss' is not meas"):
        Experiment(config).setup()
    stopping = {"trainer.early_stopping": {"patience": 2}, "lr_scheduler": None}
    allowed = Experiment(make_config(**{"trainer.refit": True, **stopping}))
    allowed.setup()
    allowed.close()


def test_several_processes_are_refused(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.runs.refit.world_size", lambda: 2)
    with pytest.raises(UsageError, match=r"trainer\.refit is by one process"):
        Experiment(make_config(**{"trainer.refit": True})).setup()
