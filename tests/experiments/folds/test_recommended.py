from __future__ import annotations

import statistics
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from ignite.engine import Events
from safetensors.torch import load_file, save_file

from datasets.splits import SUBSETS
from engine.metrics import EpochOutputs
from engine.reporting import read_log
from engine.statistics import calibrate, choose_threshold
from experiments.baselines import baseline_outputs, load_baselines
from experiments.builders import build_data
from experiments.config import load_config
from experiments.folds import FUSED_BASELINES, cross_validate, fold_runs
from experiments.folds.recommended import member_weights
from experiments.prediction import load_model
from experiments.run_files import read_run
from experiments.runs import FinalTraining
from tests.experiments.card_code import predict_as_the_card_says

pytestmark = pytest.mark.slow

WEIGHTS = "checkpoints/model.safetensors"


@pytest.fixture(scope="module")
def small(tmp_path_factory, cohort_dir):
    """A network that selects its epoch, and no baselines."""
    values = {
        "metrics": ["auroc"],
        "data": {"root": str(cohort_dir), "labels": {"control": 0, "case": 1}},
        "model": {"name": "tabular_only"},
        "optimizer": {"lr": 0.003},
        "trainer": {"max_epochs": 8, "device": "cpu"},
        "checkpoint": {"monitor": "val/auroc", "mode": "max"},
        "report": {"enabled": False, "resamples": 0},
        "audit": {"enabled": False},
        "baselines": {"enabled": False, "models": ["spectra_logistic"]},
    }
    path = tmp_path_factory.mktemp("small") / "small.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def run(small, place, *overrides, **options):
    words = [("runs_dir", str(place)), *overrides]
    assert cross_validate(str(small), words, 3, **options) == 0
    return place / "small-folds" / "recommended"


@pytest.fixture(scope="module")
def trained(small, tmp_path_factory):
    """The recommended network's folder."""
    return run(small, tmp_path_factory.mktemp("trained"))


def selected(place):
    """The selected epoch of each fold, by the log of its run."""
    epochs = []
    for number in range(3):
        folder = place / f"small-fold{number}"
        rows = [row for row in read_log(folder / "log.jsonl") if row["event"] == "epoch"]
        best = max(row["metrics"]["val/auroc"] for row in rows)
        tied = [row for row in rows if row["metrics"]["val/auroc"] == best]
        epochs.append(min(tied, key=lambda row: row["metrics"]["val/loss"])["epoch"])
    return epochs


def test_it_is_trained_on_all_samples_for_the_median_of_the_selected_epochs(trained, cohort_dir):
    everyone = pd.read_csv(cohort_dir / "samples.csv", dtype=str)["sample_id"].tolist()
    splits = pd.read_csv(trained / "splits.csv", dtype=str)
    assert splits["sample_id"].tolist() == everyone
    assert set(splits["split"]) == {"train"}
    found = selected(trained.parents[1])
    assert 1 < statistics.median(found) != found[0]
    rows = [r for r in read_log(trained / "refit" / "log.jsonl") if r["event"] == "epoch"]
    assert len(rows) == statistics.median(found)
    run_of_fold = read_run(trained.parents[1] / "small-fold0", "")
    batches = -(-len(everyone) // run_of_fold.config["trainer"]["batch_size"])
    assert rows[-1]["iteration"] == len(rows) * batches
    assert not any(name.startswith("val/") for row in rows for name in row["metrics"])


def test_it_is_loaded_as_its_card_says_and_predicts(trained, small, cohort_dir):
    model, table = predict_as_the_card_says(trained, cohort_dir)
    (trained / "new_predictions.csv").unlink()
    data = build_data(load_config(str(small)), fitted_on=SUBSETS)
    assert str(model.fitted.plain["covariates"]) == str(data.encoder.state_dict())
    assert table["sample_id"].tolist() == data.cohort.sample_ids
    cases, targets = table["prob_case"].to_numpy(), data.cohort.targets
    assert np.isfinite(cases).all()
    assert cases[targets == 1].mean() > cases[targets == 0].mean() + 0.02
    of_folder = load_model(trained.parent).predict(cohort_dir)
    assert of_folder.probabilities[:, 1].numpy() == pytest.approx(cases)


def test_it_is_calibrated_and_decides_by_the_test_folds(trained, cohort_dir):
    oof = pd.read_csv(trained.parent / "predictions_oof.csv")
    probabilities = torch.from_numpy(
        oof[["tabular_only:prob_control", "tabular_only:prob_case"]].to_numpy()
    )
    case = (oof["target"] == "case").to_numpy(copy=True)
    predictions = load_model(trained.parent).predict(cohort_dir)
    target, ids = torch.from_numpy(case).long(), oof["sample_id"].tolist()
    outputs = EpochOutputs(probabilities.log(), target, ids, {}, "binary")
    found = calibrate(outputs, outputs)
    assert found is not None
    assert predictions.temperature == pytest.approx(found.temperature)
    threshold = choose_threshold(probabilities[:, 1].numpy(), case, "youden")
    assert predictions.thresholds == {"case": pytest.approx(threshold)}


def test_the_folder_says_that_nothing_tested_it_and_shows_the_nested_estimate(trained):
    card = (trained / "model_card.md").read_text("utf-8")
    assert "there are no figures of the model itself" in card
    epochs = selected(trained.parents[1])
    told = f"the median of the selected epochs of the folds ({min(epochs)} to {max(epochs)})"
    assert told in card
    recommended: Any = pd.read_csv(trained.parent / "leaderboard.csv").iloc[0]
    assert f"auroc {recommended['pooled']:.4f}" in card
    names = {path.name for path in trained.iterdir()}
    assert names == {
        *("config.yaml", "environment.json", "splits.csv", "preprocessing.pt", "model_card.md"),
        *("checkpoints", "refit", "decisions.json"),
    }


def test_a_cut_training_is_continued_to_the_same_weights(trained, small, tmp_path, monkeypatch):
    whole, begun = FinalTraining._fit, []

    def cut(self):
        begun.append(self.trainer.epochs_done())

        def stop():
            raise KeyboardInterrupt

        if len(begun) == 1:
            self.trainer.add_event_handler(Events.EPOCH_STARTED(once=2), stop)
        whole(self)

    monkeypatch.setattr(FinalTraining, "_fit", cut)
    with pytest.raises(KeyboardInterrupt):
        run(small, tmp_path)
    folder = tmp_path / "small-folds" / "recommended"
    assert not (folder / WEIGHTS).exists()
    assert (tmp_path / "small-folds" / "cross_validation.html").is_file()
    run(small, tmp_path)
    assert begun == [0, 1]
    assert (folder / WEIGHTS).read_bytes() == (trained / WEIGHTS).read_bytes()


def test_what_is_trained_is_not_trained_again(small, trained, monkeypatch):
    before = (trained / WEIGHTS).read_bytes()
    monkeypatch.setattr(FinalTraining, "_fit", None)
    run(small, trained.parents[1])
    assert (trained / WEIGHTS).read_bytes() == before


def test_a_signal_gives_its_code_and_leaves_no_model(small, tmp_path, monkeypatch):
    def stopped(self):
        self.handlers.graceful_shutdown.exit_code = 143

    run(small, tmp_path)
    monkeypatch.setattr(FinalTraining, "_fit", stopped)
    more = [("runs_dir", str(tmp_path)), ("exp_name", "other")]
    assert cross_validate(str(small), more, 3) == 143
    assert not (tmp_path / "other-folds" / "recommended" / WEIGHTS).exists()
    assert (tmp_path / "other-folds" / "leaderboard.csv").is_file()


def test_each_seed_is_trained(small, tmp_path, cohort_dir):
    run(small, tmp_path)
    folder = run(small, tmp_path, seeds=2, jobs=2)
    assert sorted(path.name for path in folder.iterdir()) == ["decisions.json", "seed0", "seed1"]
    weights = [load_file(folder / name / WEIGHTS) for name in ("seed0", "seed1")]
    assert not all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    card = (folder / "seed1" / "model_card.md").read_text("utf-8")
    assert "one of 2 of different seeds; the estimate is of the mean of their predictions" in card
    mean = load_model(folder.parent).predict(cohort_dir)
    each = [load_model(folder / name).predict(cohort_dir) for name in ("seed0", "seed1")]
    own = [predictions.probabilities for predictions in each]
    assert not torch.allclose(own[0], own[1], atol=1e-3)
    torch.testing.assert_close(mean.probabilities, torch.stack(own).mean(dim=0))
    assert mean.temperature is not None
    assert [predictions.temperature for predictions in each] == [None, None]


def test_another_recommendation_replaces_the_model(small, tmp_path, cohort_dir):
    folder = run(small, tmp_path, ("optimizer.lr", "1e-5"))
    assert (folder / WEIGHTS).is_file()
    run(small, tmp_path, ("optimizer.lr", "1e-5"), ("baselines.enabled", "true"))
    names = {path.name for path in folder.rglob("*") if path.is_file()}
    fitted = {"baselines.skops", "preprocessing.pt", "config.yaml", "model_card.md"}
    assert names == {*fitted, "decisions.json"}
    card = (folder / "model_card.md").read_text("utf-8")
    assert "logistic regression on spectra, trained on all 60 samples" in card
    assert "load_model" in card
    predictions = load_model(folder.parent).predict(cohort_dir)
    overrides = [("baselines.enabled", "true"), ("baselines.models", "[spectra_logistic]")]
    data = build_data(load_config(str(small), overrides), fitted_on=SUBSETS)
    expected = baseline_outputs(load_baselines(folder), data, "train")["spectra_logistic"]
    torch.testing.assert_close(predictions.probabilities, expected.probabilities)
    run(small, tmp_path, ("optimizer.lr", "1e-5"))
    assert (folder / WEIGHTS).is_file()
    assert not (folder / "baselines.skops").exists()


def test_networks_of_spectra_are_no_members_of_late_fusion(small, tmp_path, monkeypatch):
    """Their names begin as those of the baselines of spectra do."""
    baselines = ["covariates_logistic", "spectra_pca_logistic", "late_fusion"]
    order = [FUSED_BASELINES, "spectra_cnn", *baselines[:2]]
    gather = fold_runs.gather
    ordered = lambda *given: replace(gather(*given), best_first=order)  # noqa: E731
    monkeypatch.setattr(fold_runs, "gather", ordered)
    model = ("model", "{name: spectra_cnn}")
    fitted = ("baselines", f"{{enabled: true, models: [{', '.join(baselines)}]}}")
    place = run(small, tmp_path, model, fitted, ("trainer.max_epochs", "1"))
    found = load_baselines(place)
    assert list(found.fused) == ["spectra_pca_logistic", "covariates_logistic"]


def test_members_are_weighed_by_the_mean_of_the_folds(small, tmp_path):
    folder = run(small, tmp_path, ("model", "{name: tabular_only, linear_path: true}"))
    own = load_file(folder / WEIGHTS)["member_weights"]
    each = [
        load_file(tmp_path / f"small-fold{number}" / WEIGHTS)["member_weights"]
        for number in range(3)
    ]
    assert not torch.equal(own, torch.ones(2))  # as it is before they are weighed
    assert torch.allclose(own, torch.stack(each).mean(dim=0))


def test_the_mean_is_of_the_runs_of_one_seed(tmp_path):
    runs: dict[tuple[str, int, int], Any] = {}
    for seed, number, weight in ((0, 0, 0.0), (0, 1, 0.5), (1, 0, 1.0)):
        folder = tmp_path / f"{seed}-{number}"
        (folder / WEIGHTS).parent.mkdir(parents=True)
        save_file({"member_weights": torch.tensor([1.0, weight])}, folder / WEIGHTS)
        runs["tft", seed, number] = SimpleNamespace(folder=folder)
    assert member_weights(runs, 0) == [1.0, 0.25]
    assert member_weights(runs, 1) == [1.0, 1.0]
    save_file({"member_weights": torch.ones(3)}, tmp_path / "0-1" / WEIGHTS)
    assert member_weights(runs, 0) == []
    save_file({"head.weight": torch.zeros(1)}, tmp_path / "1-0" / WEIGHTS)
    assert member_weights(runs, 1) == []


def test_settings_that_follow_the_validation_set_are_left_to_the_user(small, tmp_path, capsys):
    schedule = ("lr_scheduler", "{name: plateau, params: {monitor: val/loss}}")
    folder = run(small, tmp_path, schedule)
    told = capsys.readouterr().out
    assert "is not trained on all samples" in told
    assert "val/loss" in told.rpartition("is not trained on all samples")[2]
    assert [path.name for path in folder.iterdir()] == ["config.yaml"]
    written = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
    assert written["lr_scheduler"]["name"] == "plateau"
