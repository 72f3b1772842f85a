"""All four tasks, from the cohort's files to the exported ones."""

from __future__ import annotations

import csv
import json
import shutil
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from ignite.engine import Events
from sklearn import metrics as sk

from datasets.cohort import TargetScaler
from datasets.errors import UsageError
from datasets.simulation import simulate_cohort
from engine import Phase, TrainEvents
from experiments.runs import Experiment
from models import LinearPath
from models.tft_models import TFTMultimodal
from tests.no_waiting import refuse_waiting_in_steps

pytestmark = pytest.mark.slow

MISSING = ["S0003", "S0017"]


@pytest.fixture(scope="session")
def task_dir(tmp_path_factory):
    """A simulated cohort with further columns: labels, values, more than two classes."""
    root = tmp_path_factory.mktemp("cohorts") / "tasks"
    plain = tmp_path_factory.mktemp("cohorts") / "plain"
    simulate_cohort(plain, 5, n_samples=80, spec_len=128, max_scans=2)
    shutil.copytree(plain, root)
    samples = pd.read_csv(root / "samples.csv")
    truth = pd.read_csv(root / "truth.csv")
    samples["risk"] = truth["both"].where(~samples["sample_id"].isin(MISSING))
    samples["days"] = 365.25 * samples["age"] + 1000
    samples["diseased"] = (samples["label"] == "case").astype(int)
    samples["male"] = (samples["sex"] == "M").astype("Int64")
    samples.loc[samples["sample_id"] == MISSING[0], "male"] = pd.NA
    samples["stage"] = pd.qcut(truth["both"], 3, labels=["low", "middle", "high"])
    samples.to_csv(root / "samples.csv", index=False)
    return root


DATA: dict[str, dict[str, Any]] = {
    "binary": {"labels": {"control": 0, "case": 1}},
    "multiclass": {"task": "multiclass", "label": "stage"},
    "multilabel": {"task": "multilabel", "label": ["diseased", "male"]},
    "regression": {"task": "regression", "label": ["risk", "BMI"]},
}
# These labels and values are made from covariates, which the audit does not let pass.
ACCEPTED = ["label_leakage:sex", "label_leakage:age"]
COLUMNS = {
    "binary": ["target", "prediction", "prob_control", "prob_case"],
    "multiclass": ["target", "prediction", "prob_high", "prob_low", "prob_middle"],
    "multilabel": [
        "target_diseased",
        "prediction_diseased",
        "target_male",
        "prediction_male",
        "prob_diseased",
        "prob_male",
    ],
    "regression": ["target_risk", "prediction_risk", "target_BMI", "prediction_BMI"],
}


def settings_of(make_config, task_dir, task, **changes):
    fixed = {"data.root": str(task_dir), "data.labels": None, "audit.accept": ACCEPTED}
    changes = fixed | {"exp_name": task} | changes
    return make_config(**{f"data.{key}": value for key, value in DATA[task].items()} | changes)


@pytest.fixture
def run(make_config, task_dir):
    """Build an experiment of a task: ``run("regression", **changes)``."""

    def build(task, **changes):
        if task == "binary":
            changes = {"data.labels": DATA["binary"]["labels"]} | changes
        return Experiment(settings_of(make_config, task_dir, task, **changes))

    return build


def recomputed(task, table):
    """A metric of the predictions as they were written."""
    if task == "binary":
        return "auroc", sk.roc_auc_score(table["target"] == "case", table["prob_case"])
    if task == "multiclass":
        return "accuracy", (table["target"] == table["prediction"]).mean()
    if task == "multilabel":
        both = [table[[f"{kind}_diseased", f"{kind}_male"]] for kind in ("target", "prob")]
        return "auroc", sk.roc_auc_score(*both, average="macro")
    both = [table[[f"{kind}_risk", f"{kind}_BMI"]] for kind in ("target", "prediction")]
    return "r2", sk.r2_score(*both)


@pytest.mark.parametrize("task", DATA)
def test_a_task_runs_from_the_cohort_to_the_page(run, task_dir, task):
    experiment = run(task)
    experiment.run()
    folder = experiment.run_dir
    assert experiment.data.cohort.task == experiment.outputs["test"].task == task

    table = pd.read_csv(folder / "predictions.csv", dtype={"sample_id": str})
    assert list(table.columns) == ["sample_id", *COLUMNS[task]]
    samples = pd.read_csv(task_dir / "samples.csv", dtype={"sample_id": str})
    own = samples.set_index("sample_id").loc[table["sample_id"]]
    label = DATA[task].get("label", "label")
    for column, written in (
        ((label, "target"),) if isinstance(label, str) else ((c, f"target_{c}") for c in label)
    ):
        assert table[written].tolist() == own[column].tolist()
    name, value = recomputed(task, table)
    assert value == pytest.approx(experiment.results["test"][name], abs=1e-5)

    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    assert len(rows) == 2
    assert {f"val/{metric}" for metric in experiment.config.metric_names} <= rows[0].keys()
    assert float(rows[-1]["train/loss"]) > 0
    assert json.loads((folder / "metrics.json").read_text())["monitor"] == (
        experiment.config.checkpoint.monitor
    )
    assert f"| {name} |" in (folder / "summary.md").read_text()
    assert (folder / "report" / "index.html").stat().st_size > 0


def test_a_sample_without_a_target_is_left_out_and_said(run):
    for task, absent in (("regression", MISSING), ("multilabel", MISSING[:1])):
        experiment = run(task)
        experiment.setup()
        assert not set(absent) & set(experiment.data.cohort.sample_ids)
        said = f"left-out labels: (missing) {len(absent)}"
        assert any(said in line for line in experiment.data.describe())


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_by_default_main_and_auxiliary_heads_learn_the_task(run, task):
    experiment = run(task, **{"trainer.max_epochs": 1})
    experiment.setup()
    moved = set()

    @experiment.trainer.on(TrainEvents.GRADIENTS_READY)
    def look(trainer):
        for name, parameter in trainer.model.named_parameters():
            if parameter.grad is not None and parameter.grad.abs().sum() > 0:
                moved.add(name)

    experiment.train()
    assert moved == {name for name, _ in experiment.trainer.model.named_parameters()}
    terms = {"main_loss", "aux_spec_loss", "aux_tab_loss", "contrastive_loss"}
    assert {f"train/{term}" for term in terms} <= experiment.trainer.state.metrics.keys()


def test_values_far_from_zero_are_learned_in_their_own_unit(run):
    settings = {
        "data.label": "days",  # a year of age is 365.25 of them
        "model": {"name": "tabular_only", "params": {}},
        "optimizer.lr": 0.01,
        "trainer.max_epochs": 30,
        "report.enabled": False,
    }
    experiment = run("regression", **settings)
    experiment.run()
    assert experiment.results["test"]["r2"] > 0.8
    days = experiment.data.cohort.targets
    assert days.mean() > 15_000
    assert experiment.results["test"]["mae"] < 0.4 * days.std()
    last = list(csv.DictReader((experiment.run_dir / "metrics.csv").open()))[-1]
    assert 100 < float(last["train/mae"]) < 0.4 * days.std()  # with dropout, still in days
    fitted = torch.load(experiment.run_dir / "preprocessing.pt", weights_only=True)
    assert fitted["task"] == "regression"
    scaler = TargetScaler()
    scaler.load_state_dict(fitted["targets"])
    train = days[experiment.data.split == "train"]
    assert scaler.standardize(train).mean() == pytest.approx(0, abs=1e-5)
    assert "the metrics are in the units of days" in (experiment.run_dir / "summary.md").read_text(
        "utf-8"
    )


def test_targets_are_scaled_by_the_training_split_only(run):
    experiment = run("regression")
    experiment.setup()
    targets = {
        side: np.stack([sample.target for sample in samples.__getitems__(range(len(samples)))])
        for side, samples in experiment.data.datasets.items()
    }
    assert targets["train"].mean(0) == pytest.approx([0, 0], abs=1e-5)
    assert targets["train"].std(0) == pytest.approx([1, 1], abs=1e-5)
    assert np.abs(targets["test"].mean(0)).min() > 1e-3


def test_a_resumed_regression_ends_as_the_uninterrupted_one(run):
    plain = {"report.enabled": False, "audit.enabled": False, "trainer.max_epochs": 3}
    straight = run("regression", **plain)
    straight.setup()
    straight.train()
    cut = run("regression", **{"exp_name": "cut", "checkpoint.every_steps": 1})
    cut.setup()

    class CrashError(Exception):
        pass

    @cut.trainer.on(Events.ITERATION_STARTED(once=7))  # within an epoch
    def crash():
        raise CrashError

    with pytest.raises(CrashError):
        cut.train()
    assert cut.trainer.state.iteration % cut.trainer.state.epoch_length
    config = cut.config
    resumed = Experiment(config, run_dir=cut.run_dir)
    resumed.setup()
    resumed.train()
    for mine, theirs in zip(
        straight.trainer.model.parameters(), resumed.trainer.model.parameters(), strict=True
    ):
        assert torch.equal(mine, theirs)
    tables = [(e.run_dir / "metrics.csv").read_text() for e in (straight, resumed)]
    assert tables[0] == tables[1]


def test_a_run_is_not_continued_as_another_task(run, make_config):
    experiment = run("multilabel", **{"trainer.max_epochs": 1})
    experiment.setup()
    experiment.train()
    changed = make_config(
        **{
            "data.task": "regression",
            "loss": {},
            "checkpoint": {},
            "data.split.file": None,
        }
    )
    with pytest.raises(UsageError, match=r"cannot be continued with data\.task regression"):
        Experiment(changed, run_dir=experiment.run_dir).setup()


def test_a_composed_loss_is_logged_by_term(run):
    terms: dict[str, dict[str, Any]] = {
        "main": {"name": "focal", "params": {"alpha": "balanced"}},
        "aux_spec": {"name": "cross_entropy", "on": "aux_logits_spec", "weight": 0.3},
        "contrast": {"name": "supcon", "weight": 0.05},
        "sure": {"name": "entropy", "weight": 0.01},
    }
    ramp = {"start": 0.0, "end": 1.0, "epochs": 1}
    mover = {"name": "loss_weights", "params": {"weights": {"main": 1.0, "aux_spec": ramp}}}
    changes = {"loss.params": {"terms": terms}, "handlers": [mover], "report.enabled": False}
    experiment = run("binary", **changes)
    experiment.setup()
    totals = {}

    @experiment.trainer.on(Events.ITERATION_COMPLETED)
    def look(trainer):
        losses = {name: float(value) for name, value in trainer.state.losses.items()}
        weight = 0.0 if trainer.state.epoch == 1 else 1.0
        totals[trainer.state.iteration] = (
            losses["total_loss"],
            losses["main"] + weight * losses["aux_spec"],
        )

    experiment.train()
    for total, expected in totals.values():
        assert total == pytest.approx(expected, rel=1e-5)
    measured = experiment.trainer.state.metrics
    assert {f"val/{name}" for name in terms} <= measured.keys()
    # Where models are evaluated the composition's own weights stay.
    own = {name: term.get("weight", 1.0) for name, term in terms.items()}
    expected = sum(weight * measured[f"val/{name}"] for name, weight in own.items())
    assert measured["val/loss"] == pytest.approx(expected, rel=1e-5)


def test_the_models_own_loss_wins_also_in_a_regression(run, monkeypatch):
    def compute_loss(self, outputs, targets, aux=None):
        return {
            "total_loss": (outputs["logits"] - targets).abs().mean(),
            "of_the_model": targets.sum(),
        }

    monkeypatch.setattr(TFTMultimodal, "compute_loss", compute_loss, raising=False)
    experiment = run("regression", **{"trainer.max_epochs": 1})
    experiment.setup()
    experiment.train()
    metrics = experiment.trainer.state.metrics
    assert "train/of_the_model" in metrics
    assert "train/main_loss" not in metrics


BALANCED = {
    "multiclass": {"name": "focal", "params": {"alpha": "balanced"}},
    "multilabel": {"name": "bce", "params": {"pos_weight": "balanced"}},
    "regression": {"name": "huber"},
}


def with_every_kind_of_term(task):
    terms = {
        "main": BALANCED[task],
        "pair": {"name": "info_nce", "weight": 0.1},
        "size": {"name": "l2", "weight": 0.01, "on": "gated_spec"},
    }
    if task == "multiclass":
        terms["contrast"] = {"name": "supcon", "weight": 0.1}
    if task != "regression":
        terms["sure"] = {"name": "entropy", "weight": 0.01}
    return {
        "loss.params": {"terms": terms},
        "trainer.precision": "bf16",
        "handlers": [{"name": "nan_guard", "params": {"check_every": 100}}],
    }


@pytest.mark.parametrize("task", BALANCED)
def test_no_step_of_a_task_asks_the_device_for_a_value(run, task):
    off = {"report.enabled": False, "audit.enabled": False}
    experiment = run(task, **with_every_kind_of_term(task), **off)
    experiment.setup()
    refuse_waiting_in_steps(experiment.trainer)
    experiment.train()
    assert experiment.trainer.state.epoch == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("task", BALANCED)
def test_a_task_runs_on_a_gpu_without_waiting_for_it(run, task):
    experiment = run(task, **with_every_kind_of_term(task), **{"trainer.device": "cuda"})
    experiment.setup()
    watched = []

    def watch():
        # The first epoch sets up what torch makes once: the optimizer's memory, kernels' plans.
        if experiment.trainer.state.epoch > 1:
            torch.cuda.set_sync_debug_mode("error")
            watched.append(experiment.trainer.state.iteration)

    def stop():
        torch.cuda.set_sync_debug_mode("default")

    trainer = experiment.trainer
    trainer.add_event_handler(Events.ITERATION_STARTED, watch, phase=Phase.PREPARE)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, stop, phase=Phase.REPORT)
    try:
        experiment.train()
    finally:
        stop()
    assert len(watched) == trainer.state.epoch_length
    assert np.isfinite(experiment.validate()["loss"])


@pytest.mark.parametrize(
    ("task", "changes", "message"),
    [
        ("regression", {"metrics": ["auroc"]}, r"'auroc' does not fit regression \(choices: mae"),
        ("multilabel", {"metrics": ["mae"]}, "'mae' does not fit multilabel"),
        (
            "regression",
            {"checkpoint.monitor": "val/auroc"},
            "checkpoint.monitor: no metric is called 'val/auroc'.*val/mae",
        ),
        (
            "regression",
            {"trainer.early_stopping": {"monitor": "val/auroc"}},
            "early_stopping.monitor: no metric is called 'val/auroc'.*val/mae",
        ),
        (
            "regression",
            {"checkpoint.monitor": "val/mae"},
            r"no metric is called 'val/mae'; did you mean 'val/mae\[BMI\]'\?",
        ),
        (
            "regression",
            {"metrics": ["mae[bmi]"]},
            r"'mae\[bmi\]': no target is called 'bmi'; did you mean 'BMI'\?",
        ),
        ("regression", {"loss.name": "bce"}, "'bce' does not fit task 'regression'"),
        ("regression", {"data.label": "label"}, "'case' of sample .* is not a finite number"),
        ("regression", {"data.label": ["risk", "rsik"]}, "no label column 'rsik'; did you mean"),
        ("regression", {"data.labels": {"a": 0}}, "labels number classes"),
        (
            "regression",
            {"data.label": "BMI", "data.numeric": ["BMI"]},
            "'BMI' is the label column, it cannot be a covariate",
        ),
        ("multilabel", {"data.label": ["diseased", "age"]}, "label 'age' of .* 0 or 1"),
        ("multiclass", {"data.label": "label"}, "makes 2 classes .*task 'binary'"),
        (
            "multiclass",
            {"data.task": "auto", "data.label": "BMI"},
            "different numbers in 80 samples, .* set data.task to regression",
        ),
        (
            "binary",
            {"loss.params": {"terms": {"aux": {"name": "focal", "on": "aux_logit_spec"}}}},
            "no 'aux_logit_spec' .*did you mean 'aux_logits_spec'",
        ),
    ],
)
def test_what_does_not_fit_the_task_is_refused_in_one_line(run, tmp_path, task, changes, message):
    with pytest.raises(UsageError, match=message) as error:
        run(task, **changes).setup()
    assert "\n" not in str(error.value)
    runs = tmp_path / "runs"
    assert not runs.exists() or not list(runs.iterdir())


@pytest.mark.parametrize("task", sorted(DATA))
def test_every_task_can_stand_on_a_linear_path(make_config, task_dir, task):
    wanted = {"name": "pca_mlp", "params": {"components": 8}, "linear_path": True, "members": 2}
    quick = {"trainer.max_epochs": 1, "report.enabled": False, "model": wanted}
    experiment = Experiment(settings_of(make_config, task_dir, task, **quick))
    experiment.setup()
    offset = experiment.data.datasets["train"].offset
    assert offset is not None
    assert offset.shape == (experiment.data.trained.sum(), experiment.data.num_classes)
    assert np.isfinite(offset).all()
    assert offset.std(axis=0).min() > 0
    experiment.train()
    experiment.test()
    experiment.close()
    logits = experiment.outputs["test"].logits.numpy()
    test, scaler = experiment.data.datasets["test"], experiment.data.scaler
    model = experiment.trainer.model
    assert isinstance(model, LinearPath)
    expected = model.predict(test.mean_scans(), test.tabular)
    if scaler is not None:
        expected = scaler.restore(torch.from_numpy(expected)).numpy()
    # An epoch at a small rate changes little: the linear model is what predicts.
    assert np.corrcoef(logits[:, 0], expected[:, 0])[0, 1] > 0.9
