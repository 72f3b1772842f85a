from __future__ import annotations

import pytest

from datasets.cohort import SEVERAL_COLUMNS
from datasets.errors import UsageError
from datasets.simulation import BLOOD_VALUES
from engine.metrics import TASKS
from engine.statistics import fewest_resamples
from experiments.config import data, report
from experiments.config.data import SHARED_ROWS, SHARED_SCANS
from experiments.config.source import check_config
from experiments.runs import Experiment


def configured(task="auto", **sections):
    data = {"task": task} | sections.pop("data", {})
    return check_config({"data": data, **sections})


def test_what_is_repeated_without_its_imports_is_the_same():
    assert fewest_resamples(0.95) == report.FEWEST_RESAMPLES
    assert data.SEVERAL_COLUMNS == SEVERAL_COLUMNS


@pytest.mark.parametrize(
    ("covariates", "log"), [("all", list(BLOOD_VALUES)), ("few", ["albumin"]), ("none", [])]
)
def test_blood_values_of_the_embedded_cohort_are_logged(covariates, log):
    assert configured(data={"simulated": {"covariates": covariates}}).data.log == log


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"checkpoint": {"monitor": "val/net_loss"}}, "checkpoint"),
        ({"trainer": {"early_stopping": {"monitor": "val/net_loss"}}}, "trainer.early_stopping"),
        (
            {"lr_scheduler": {"name": "plateau", "params": {"monitor": "val/net_loss"}}},
            "lr_scheduler.params",
        ),
    ],
)
def test_a_metric_of_ones_own_called_loss_has_to_state_its_mode(section, key):
    with pytest.raises(UsageError, match=rf"^{key}.monitor: .*: set {key}.mode to max or min"):
        configured(metrics=["mine.net_loss"], **section)
    configured(metrics=["mine.net_loss"], checkpoint={"monitor": "val/net_loss", "mode": "max"})
    assert configured(checkpoint={"monitor": "val/main_loss"}).checkpoint.mode == "min"


@pytest.mark.parametrize("task", ["auto", *TASKS])
def test_metrics_and_monitors_follow_the_task(task):
    config = configured(task, trainer={"early_stopping": {"patience": 3}})
    judged = ("val/mae", "min") if task == "regression" else ("val/auroc", "max")
    stopping = config.trainer.early_stopping
    for judge in (config.checkpoint, stopping):
        assert (judge.monitor, judge.mode) == judged
    assert config.metrics == list(TASKS["binary" if task == "auto" else task].metrics)


def test_values_in_several_units_are_judged_by_what_has_none():
    config = configured("regression", data={"label": ["age", "BMI"]})
    assert (config.checkpoint.monitor, config.checkpoint.mode) == ("val/r2", "max")


def test_errors_of_each_value_are_in_its_own_unit():
    several = configured("regression", data={"label": ["age", "BMI"]}, metrics=["mae", "r2"])
    assert several.metric_names == ["mae[age]", "mae[BMI]", "r2", "r2[age]", "r2[BMI]"]
    assert several.metrics == ["mae", "r2"]  # as they were chosen
    for one in ("age", ["age"]):
        assert configured("regression", data={"label": one}, metrics=["mae"]).metric_names == [
            "mae"
        ]
    labels = configured("multilabel", data={"label": ["a", "b"]}, metrics=["auroc"])
    assert labels.metric_names == ["auroc"]


def test_what_is_chosen_stays_and_its_mode_follows_it():
    config = configured("regression", checkpoint={"monitor": "val/loss"}, metrics=["rmse"])
    assert (config.checkpoint.monitor, config.checkpoint.mode) == ("val/loss", "min")
    assert config.metrics == ["rmse"]
    config = configured(checkpoint={"monitor": "val/loss", "mode": "max"})
    assert config.checkpoint.mode == "max"


@pytest.mark.parametrize(
    ("rule", "demand"), [("youden", None), ("recall", 0.9), ("fpr", 0.1), ("cost", 1.0)]
)
def test_a_threshold_rule_that_takes_a_demand_has_a_usual_one(rule, demand):
    config = configured(report={"threshold": {"rule": rule}})
    assert config.resolved()["report"]["threshold"] == {"rule": rule, "demand": demand}
    assert check_config(config.plain()) == config


def test_what_was_filled_in_stays_when_it_is_read_again():
    config = configured("regression", data={"label": ["age", "BMI"]}, model={"name": "attention"})
    assert config.loss.name == "weighted"
    assert check_config(config.plain()) == config


DERIVED: dict[tuple[str, ...], object] = {
    ("loss", "name"): None,
    ("loss", "params"): {},
    ("metrics",): [],
    ("checkpoint", "monitor"): None,
    ("checkpoint", "mode"): None,
    ("trainer", "early_stopping", "monitor"): None,
    ("trainer", "early_stopping", "mode"): None,
    ("data", "split", "seed"): None,
    ("data", "split", "fold"): None,
    ("data", "batching", "pad_rows_to"): None,
    ("data", "batching", "pad_scans_to"): None,
    ("report", "threshold", "demand"): None,
}


def value_at(values, path):
    for key in path:
        values = values[key]
    return values


@pytest.mark.parametrize("path", DERIVED, ids=".".join)
def test_a_derived_value_is_resolved_but_not_kept_as_chosen(path):
    config = configured(
        trainer={"early_stopping": {}, "compile": "graphs"},
        data={"split": {"kind": "kfold"}},
        report={"threshold": {"rule": "recall"}},
    )
    assert value_at(config.plain(), path) == DERIVED[path]
    if path != ("loss", "params"):
        assert value_at(config.resolved(), path) not in (None, [], {})
    assert config.plain()["trainer"]["grad_clip"] == 1.0


def test_what_is_chosen_is_kept_even_where_it_is_the_default():
    config = configured(checkpoint={"monitor": "val/auroc", "mode": "max"}, metrics=["auroc"])
    plain = config.plain()
    assert (plain["checkpoint"]["monitor"], plain["checkpoint"]["mode"]) == ("val/auroc", "max")
    assert plain["metrics"] == ["auroc"]


@pytest.mark.parametrize(
    ("change", "path", "expected"),
    [
        ({"seed": 1}, ("data", "split", "seed"), 1),
        ({"checkpoint": {"monitor": "val/loss"}}, ("checkpoint", "mode"), "min"),
        ({"data": {"task": "regression"}}, ("checkpoint", "monitor"), "val/mae"),
        ({"data": {"task": "regression"}}, ("metrics",), list(TASKS["regression"].metrics)),
        ({"data": {"task": "multilabel"}}, ("loss", "name"), "weighted"),
        ({"model": {"name": "mean_linear"}}, ("loss", "name"), "cross_entropy"),
    ],
)
def test_saved_settings_with_an_override_derive_anew(change, path, expected):
    saved = configured().plain()
    for key, value in change.items():
        saved[key] = saved[key] | value if isinstance(value, dict) else value
    assert value_at(check_config(saved).resolved(), path) == expected


def test_a_copy_with_other_values_derives_anew():
    config = configured("binary")
    assert config.model_copy(update={"seed": 7}).data.split.seed == 7
    other = config.model_copy(
        update={"data": config.data.model_copy(update={"task": "regression"})}
    )
    assert (other.checkpoint.monitor, other.checkpoint.mode) == ("val/mae", "min")
    assert other.loss.name == "weighted"
    assert config.model_copy(update={"exp_name": "b"}).plain() == config.plain() | {"exp_name": "b"}
    assert config.data.split.seed == 0


@pytest.mark.slow
def test_an_own_metric_without_a_mode_is_refused(make_config):
    own = {"name": "early_stopping", "params": {"monitor": "val/mine"}}
    for changes in (
        {"checkpoint": {"monitor": "val/mine"}},
        {"trainer.early_stopping": {"monitor": "val/mine"}},
        {"handlers": [own]},
        {"lr_scheduler": {"name": "plateau", "params": {"monitor": "val/mine"}}},
    ):
        with pytest.raises(UsageError, match=r"monitor: of 'val/mine' it is not known whether"):
            Experiment(make_config(**changes)).setup()
        for key in changes:
            make_config(**{key: {}} if key != "handlers" else {key: []})


def test_graphs_are_given_batches_that_share_shapes():
    batching = configured(trainer={"compile": "graphs"}).data.batching
    assert (batching.pad_rows_to, batching.pad_scans_to) == (SHARED_ROWS, SHARED_SCANS)
    chosen = {"batching": {"pad_rows_to": 7, "pad_scans_to": 5}}
    batching = configured(trainer={"compile": "graphs"}, data=chosen).data.batching
    assert (batching.pad_rows_to, batching.pad_scans_to) == (7, 5)
    batching = configured(trainer={"compile": "default"}).data.batching
    assert (batching.pad_rows_to, batching.pad_scans_to) == (None, None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"data": {"task": "regresion"}}, "data.task: .*'regression'.*got 'regresion'"),
        ({"data": {"label": ["a", "b"]}}, "data.label: several columns need data.task multilabel"),
        ({"data": {"label": [], "task": "binary"}}, "data.label: several columns need data.task"),
        ({"data": {"label": 3}}, "data.label: .*got 3"),
        (
            {"report": {"threshold": {"rule": "recal", "demand": 0.9}}},
            "report.threshold.rule: .*did you mean 'recall'.* got 'recal'",
        ),
        (
            {"report": {"threshold": {"rule": "recall", "demand": 90}}},
            "report.threshold.demand: .*'recall' takes a share above 0, at most 1, got 90",
        ),
        (
            {"report": {"threshold": {"demand": 0.9}}},
            "report.threshold.demand: the rule 'youden' takes no demand, got 0.9",
        ),
        (
            {"data": {"task": "regression"}, "checkpoint": {"mode": "max"}},
            "checkpoint.mode: 'max' does not suit the default monitor, 'val/mae'; set checkpoint.m",
        ),
        (
            {"trainer": {"early_stopping": {"mode": "min"}}},
            "trainer.early_stopping.mode: 'min' does not suit .*'val/auroc'",
        ),
    ],
)
def test_choices_that_do_not_go_together_are_one_line(values, message):
    with pytest.raises(UsageError, match=message) as error:
        check_config(values)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "param", "takers"),
    [
        ("cosine", "gamma", "step"),
        ("constant", "monitor", "plateau"),
        ("step", "pct_start", "one_cycle"),
        ("constant", "min_lr", "cosine, step, plateau, one_cycle"),
    ],
)
def test_a_parameter_of_another_schedule_is_refused(name, param, takers):
    values = {"lr_scheduler": {"name": name, "params": {param: 0.5}}}
    with pytest.raises(UsageError, match=f"params.{param} has no effect on .*, only on {takers}"):
        check_config(values)
