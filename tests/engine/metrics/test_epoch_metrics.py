from __future__ import annotations

import math
from dataclasses import replace
from pkgutil import resolve_name
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Events

from datasets.cohort import TargetScaler
from engine import EpochMetrics, EpochOutputs, Evaluator, Trainer, UsageError, build_optimizer
from engine.losses import LOSSES, CrossEntropy
from engine.metrics import metric_value
from engine.metrics.functions import METRICS
from handlers.checkpoint import Checkpoint
from handlers.early_stopping import EarlyStopping
from handlers.lr_schedule import LRSchedule
from handlers.validation import Validation
from tests.engine.test_trainer import ResumableLoader, through_a_file
from tests.tiny_problem import TinyLoader, TinyModel

EPOCHS = 12
TWO = torch.tensor([[0.5, -1.0], [2.0, 3.0]])


def outputs(task="", logits=TWO):
    return EpochOutputs(logits, torch.zeros(len(logits)), ["a", "b"], {}, task)


def test_outputs_know_their_task_and_what_it_makes_of_the_logits():
    assert [outputs().task, outputs(logits=torch.zeros(2, 3)).task] == ["binary", "multiclass"]
    torch.testing.assert_close(outputs().probabilities.sum(dim=1), torch.ones(2).double())
    labels = outputs("multilabel")
    torch.testing.assert_close(labels.probabilities, TWO.double().sigmoid())
    assert labels.predictions.tolist() == [[1, 0], [1, 1]]
    values = outputs("regression")
    assert torch.equal(values.predictions, TWO)
    assert not hasattr(values, "probabilities")


def measured(task, loss, values, **settings):
    """The metrics and outputs of an untrained model on other targets than the tiny problem's."""
    torch.manual_seed(0)
    loader, model = TinyLoader(), TinyModel()
    start = 0
    for number, batch in enumerate(loader.batches):
        own = torch.as_tensor(values[start : start + len(batch.target)], dtype=torch.float32)
        loader.batches[number] = replace(batch, target=own)
        start += len(own)
    evaluator = Evaluator(model, resolve_name(LOSSES[loss])(), EpochMetrics(task=task, **settings))
    return evaluator.evaluate(loader), evaluator.metrics.outputs


def test_regression_metrics_have_units_and_the_loss_is_scaled():
    values = np.random.default_rng(0).normal([50.0, -2.0], [10.0, 0.5], (20, 2))
    scaler = TargetScaler().fit(values)
    learned = scaler.standardize(values)
    found, kept = measured(
        "regression", "mse", learned, restore=scaler.restore, targets=["age", "BMI"]
    )
    errors = [f"{name}[{target}]" for name in ("mae", "mse", "rmse") for target in ("age", "BMI")]
    assert list(found) == ["loss", *errors, "r2", "r2[age]", "r2[BMI]"]
    np.testing.assert_allclose(kept.target.numpy(), values, rtol=1e-5)
    missed = kept.predictions.numpy() - values
    for number, name in enumerate(("age", "BMI")):
        own = missed[:, number]
        assert found[f"mae[{name}]"] == pytest.approx(np.abs(own).mean(), rel=1e-4)
        assert found[f"mse[{name}]"] == pytest.approx((own**2).mean(), rel=1e-4)
        assert found[f"rmse[{name}]"] == pytest.approx(np.sqrt((own**2).mean()), rel=1e-4)
    each = [found["r2[age]"], found["r2[BMI]"]]
    assert found["r2"] == pytest.approx(np.mean(each))
    assert each[0] != each[1]
    standardised = missed / scaler.state_dict()["std"]
    assert found["loss"] == pytest.approx((standardised**2).mean(), rel=1e-4)


def test_values_far_from_zero_keep_their_late_digits():
    values = np.random.default_rng(0).normal(size=(20, 2))
    found = []
    for shift in (0.0, 1e9):
        scaler = TargetScaler().fit(values + shift)
        learned = scaler.standardize(values + shift)
        settings = {"restore": scaler.restore, "targets": ["age", "BMI"]}
        found.append(measured("regression", "mse", learned, **settings)[0])
    assert found[1] == pytest.approx(found[0], rel=1e-5)


def test_an_error_in_unlike_units_has_no_mean():
    outputs = EpochOutputs(torch.zeros(4, 2), torch.ones(4, 2), list("abcd"), {}, "regression")
    for name in ("mae", "mse", "rmse"):
        with pytest.raises(
            UsageError, match=rf"no one unit for 2 targets.*{name}\[0\], {name}\[1\]"
        ):
            metric_value(name, outputs)
    named = replace(outputs, targets=["age", "BMI"])
    assert metric_value("mae[BMI]", named) == 1
    told = r"no target is called 'bmi'; did you mean 'BMI'\? \(choices: age, BMI\)"
    with pytest.raises(UsageError, match=told):
        metric_value("mae[bmi]", named)


def test_errors_of_unnamed_targets_are_refused_on_the_first_step():
    evaluator = Evaluator(
        TinyModel(), resolve_name(LOSSES["mse"])(), EpochMetrics(task="regression")
    )
    steps = []
    evaluator.add_event_handler(Events.ITERATION_STARTED, lambda: steps.append(1))
    loader = TinyLoader()
    loader.batches = [
        replace(batch, target=torch.zeros(len(batch.target), 2)) for batch in loader.batches
    ]
    with pytest.raises(
        UsageError, match=r"'mae' has no one unit for 2 targets.*mae\[0\], mae\[1\]"
    ):
        evaluator.evaluate(loader)
    assert len(steps) == 1


def test_several_labels_are_measured_label_by_label():
    labels = np.array([[1, 0], [0, 1], [1, 1], [0, 0]] * 5)
    found, kept = measured("multilabel", "bce", labels, names=["accuracy", "auroc"])
    predicted = kept.probabilities.numpy() >= 0.5
    assert found["accuracy"] == pytest.approx((predicted == labels).mean())
    assert 0 <= found["auroc"] <= 1


def test_an_unknown_metric_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'auroc'"):
        EpochMetrics(["auroc", "aurocc"])


def test_training_metrics_survive_a_resume_within_the_epoch(make_trainer, loader):
    trainer, other = make_trainer(), make_trainer()
    kept = {}
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED(once=3), lambda: kept.update(trainer.capture())
    )
    trainer.fit(loader, 1)
    assert len(kept["epoch_metrics"]["kept"]) == 3
    other.restore(kept)
    steps = other.stateful["epoch_metrics"].state_dict()["kept"]
    assert [name for step in steps for name in step["sample_id"]] == [f"s{i}" for i in range(12)]


# -- sample statistics ------------------------------------------------------------------------


class TwoHeads(TinyModel):
    """A model whose covariates say nothing, in a head of their own."""

    def forward(self, spectra, mask, tabular):
        outputs = super().forward(spectra, mask, tabular)
        both = {"aux_logits_spec": outputs["logits"], "aux_logits_tab": 0 * outputs["logits"]}
        return {**outputs, **both}


def with_heads(names):
    torch.manual_seed(0)
    model = TwoHeads()
    trainer = Trainer(model, build_optimizer(model, lr=0.01), CrossEntropy())
    EpochMetrics(names, "train/").attach(trainer)
    return trainer


def kept_after(trainer, iterations):
    kept = {}
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED(once=iterations),
        lambda: kept.update(through_a_file(trainer.capture())),
    )
    trainer.fit(ResumableLoader(), 1)
    return kept


def test_sample_statistics_survive_a_resume_within_the_epoch():
    names = ["accuracy", "modality_consistency", "effective_scans"]
    whole, resumed = with_heads(names), with_heads(names)
    resumed.restore(kept_after(whole, 3))
    resumed.fit(ResumableLoader(), 1)
    assert 0 < whole.state.metrics["train/modality_consistency"] < 1
    assert math.isnan(whole.state.metrics["train/effective_scans"])  # there is no attention
    assert resumed.state.metrics == pytest.approx(whole.state.metrics, nan_ok=True, abs=0)


def test_a_statistic_added_within_an_epoch_starts_with_the_next():
    resumed = with_heads(["modality_consistency"])
    resumed.restore(kept_after(with_heads(["accuracy"]), 3))
    resumed.fit(ResumableLoader(), 1)
    assert math.isnan(resumed.state.metrics["train/modality_consistency"])
    resumed.fit(ResumableLoader(), 2)
    assert 0 < resumed.state.metrics["train/modality_consistency"] < 1


def test_a_metrics_value_is_of_the_rows_that_count():
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    numbers = {"effective_scans": torch.tensor([1.0, 2.0, 4.0])}
    found = EpochOutputs(logits, torch.tensor([0, 1, 0]), list("abc"), {}, of_samples=numbers)
    rows = torch.tensor([2, 2, 0])
    assert metric_value("accuracy", found) == pytest.approx(2 / 3)
    assert metric_value("accuracy", found, rows) == pytest.approx(1 / 3)
    assert metric_value("effective_scans", found, rows) == 3.0
    with pytest.raises(UsageError, match="'modality_consistency' was not kept"):
        metric_value("modality_consistency", found)


# -- what is undefined --------------------------------------------------------------------------


def test_an_initially_undefined_monitor_is_accepted(tmp_path, loader):
    trainer, seen = with_heads(["precision"]), {}
    with torch.no_grad():
        # At first the second class is never predicted, which leaves its precision undefined.
        trainer.model.head.bias.copy_(torch.tensor([2.0, 0.0]))
    trainer.run_dir = tmp_path
    judged: dict[str, Any] = {"monitor": "val/precision", "mode": "max"}
    evaluator = Evaluator(trainer.model, trainer.loss, EpochMetrics(["precision"]))
    stopping = EarlyStopping(**judged, patience=EPOCHS)
    plateau = LRSchedule("plateau", **judged, factor=0.5, patience=EPOCHS)
    checkpoint = Checkpoint(**judged, save_top_k=1)
    trainer.attach(Validation(evaluator, loader), stopping, plateau, checkpoint)
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED,
        lambda t: seen.update({t.state.epoch: t.state.metrics["val/precision"]}),
    )
    trainer.fit(loader, EPOCHS)
    defined = {epoch: value for epoch, value in seen.items() if not math.isnan(value)}
    assert min(defined) > 2
    assert len(seen) == EPOCHS
    assert stopping.best == max(defined.values())
    assert stopping.best_epoch == max(defined, key=defined.__getitem__)
    kept = list((tmp_path / "checkpoints").glob(f"epoch={stopping.best_epoch:03d}-*.pt"))
    assert len(kept) == 1


@pytest.mark.parametrize("name", METRICS)
def test_each_metric_is_computed_in_one_way(name):
    task = "regression" if name in ("mae", "mse", "rmse", "r2") else "multilabel"
    width = 1 if task == "regression" else 3
    logits, target = torch.randn(20, width), torch.arange(20 * width).view(20, width) % 2
    found = EpochOutputs(logits, target.float(), [""] * 20, {}, task)
    assert metric_value(name, found) == METRICS[name](found.scores, found.target)


def test_diverged_scores_give_undefined_metrics_not_an_error(make_trainer, make_evaluator, loader):
    trainer = make_trainer()
    with torch.no_grad():
        trainer.model.head.bias.fill_(math.nan)
    metrics = make_evaluator(trainer).evaluate(loader)
    assert all(math.isnan(value) for value in metrics.values())


def test_rows_may_be_counted_twice():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    outputs = EpochOutputs(logits, torch.tensor([0, 1, 1]), list("abc"), {})
    assert metric_value("accuracy", outputs, rows=torch.tensor([0, 0, 1, 2])) == 0.75
