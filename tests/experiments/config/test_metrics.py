"""Metrics of a user's own, from the configuration to everything that a run leaves behind."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from datasets.errors import UsageError
from engine.metrics import CustomMetric
from experiments.compare import main as compare
from experiments.config.components import ComponentConfig, metric_name
from experiments.config.metrics import build_metrics, recompute_metrics
from experiments.config.source import check_config
from experiments.report.text import escape_markdown
from experiments.runs import Experiment
from tests.experiments.conftest import changed_config, small_settings
from tests.experiments.own_metrics import net_benefit

OWN = "tests.experiments.own_metrics"
SCORES = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]]).double()
TARGET = torch.tensor([0, 1, 1, 0])
CHOSEN: list[Any] = [
    "auroc",
    f"{OWN}.net_benefit",
    {"name": f"{OWN}.PositiveShare", "params": {"threshold": 0.25}},
    "torchmetrics.classification.BinaryAUROC",
]
NAMES = ["auroc", "net_benefit", "PositiveShare", "BinaryAUROC"]


def built(*entries, task="binary", width=2):
    return build_metrics(
        [ComponentConfig(**e) if isinstance(e, dict) else e for e in entries], task, width
    )


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (f"{OWN}.net_benefit", 0.0),
        ({"name": f"{OWN}.net_benefit", "params": {"threshold": 0.75}}, 0.25),
        (f"{OWN}.beta_score", 0.5),
        ({"name": f"{OWN}.beta_score", "params": {"beta": 1.0}}, 0.5),
        (f"{OWN}.PositiveShare", 0.5),
        ({"name": f"{OWN}.PositiveShare", "params": {"threshold": 0.25}}, 0.75),
        ("torchmetrics.classification.BinaryAUROC", 0.75),
        ("torchmetrics.functional.mean_squared_error", None),
    ],
)
def test_functions_factories_and_classes_are_built(entry, expected):
    if expected is None:
        (metric,) = built(entry, task="regression", width=1)
        assert metric(torch.zeros(4, 1), torch.ones(4, 1)) == 1.0
        return
    (metric,) = built(entry)
    assert isinstance(metric, CustomMetric)
    assert metric.name == metric_name(
        ComponentConfig(**entry) if isinstance(entry, dict) else entry
    )
    assert metric(SCORES, TARGET) == pytest.approx(expected)


def test_names_of_the_engine_stay_names():
    assert built("auroc", "recall_at_fpr@0.05", {"name": "mcc"}) == [
        "auroc",
        "recall_at_fpr@0.05",
        "mcc",
    ]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (f"{OWN}.net_benfit", r"metrics\.0: module .* has no 'net_benfit'; did you mean 'net_b"),
        ("no_such_package.metric", r"metrics\.0: no module 'no_such_package' to import"),
        (f"{OWN}.NOT_CALLABLE", r"metrics\.0: a metric must be a function .*, not 3"),
        (f"{OWN}.no_number", r"metrics\.0: metric 'no_number' must return one number, not Tensor"),
        (f"{OWN}.needs_three_classes", r"metrics\.0: metric 'needs_three_classes' does not take"),
        ("collections.Counter", r"metrics\.0: a metric must be a function"),
        ("sklearn.metrics.r2_score", r"metrics\.0: metric 'r2_score' takes 'y_true' first"),
        (
            {"name": "sklearn.metrics.r2_score", "params": {"force_finite": True}},
            r"metrics\.0: metric 'r2_score' takes 'y_true' first",
        ),
        (
            {"name": f"{OWN}.net_benefit", "params": {"treshold": 1}},
            r"metrics\.0\.params: net_benefit has no parameter 'treshold'.*mean 'threshold'",
        ),
        (
            {"name": f"{OWN}.PositiveShare", "params": {"beta": 1}},
            r"metrics\.0\.params: PositiveShare has no parameter 'beta'",
        ),
        (
            "torchmetrics.classification.MulticlassAUROC",
            r"metrics\.0\.params: MulticlassAUROC needs 'num_classes'",
        ),
        (
            {"name": "torchmetrics.classification.MulticlassF1Score", "params": {"num_classes": 5}},
            r"metrics\.0: metric 'MulticlassF1Score' does not take scores \[32, 2\]",
        ),
        ({"name": "auroc", "params": {"average": "macro"}}, r"metrics\.0: .* takes no params"),
        ("torchmetrics.MeanSquaredError", r"metrics\.0: metric 'MeanSquaredError' does not take"),
    ],
)
def test_what_is_wrong_is_one_line(entry, message):
    with pytest.raises(UsageError, match=f"^{message}") as error:
        built(entry)
    assert "\n" not in str(error.value)


def test_two_metrics_of_one_name_are_refused():
    two = [{"name": f"{OWN}.beta_score", "params": {"beta": beta}} for beta in (1.0, 2.0)]
    with pytest.raises(UsageError, match=r"^metrics: two metrics are called 'beta_score'"):
        built(*two)


def test_only_what_runs_no_settings_of_others_is_recomputed():
    custom, failed = recompute_metrics(
        [*CHOSEN, {"name": "os.system", "params": {"command": "touch here"}}, f"{OWN}.beta_score"],
        "binary",
        2,
    )
    assert list(custom) == NAMES[1:]
    assert failed.keys() == {"system", "beta_score"}


@pytest.fixture(scope="module")
def finished(cohort_dir, tmp_path_factory):
    config = changed_config(
        small_settings(cohort_dir, tmp_path_factory.mktemp("runs")),
        metrics=CHOSEN,
        **{"checkpoint.monitor": "val/net_benefit", "checkpoint.mode": "max"},
    )
    experiment = Experiment(config)
    experiment.run()
    return experiment


@pytest.mark.slow
def test_a_users_metrics_are_monitored_saved_and_shown(finished):
    metrics = json.loads((finished.run_dir / "metrics.json").read_text())
    assert metrics["monitor"] == "val/net_benefit"
    test = finished.outputs["test"]
    figures = finished.results["test"]
    assert figures["net_benefit"] == net_benefit(test.scores, test.target)
    assert figures["BinaryAUROC"] == pytest.approx(figures["auroc"], abs=1e-6)
    card = (finished.run_dir / "model_card.md").read_text("utf-8")
    page = (finished.run_dir / "report" / "index.html").read_text("utf-8")
    summary = (finished.run_dir / "summary.md").read_text("utf-8")
    for name in NAMES:
        assert {f"train/{name}", f"val/{name}"} <= finished.trainer.state.metrics.keys()
        low, high = metrics["test"]["intervals"][name]
        if metrics["test"]["interval_methods"][name] == "too_few":
            assert low is high is None
        else:
            assert low <= figures[name] <= high
        assert f"| {escape_markdown(name)} |" in card
        assert name in page
        assert f"| {escape_markdown(name)} |" in summary
    assert list((finished.run_dir / "checkpoints").glob("epoch=*net_benefit*.pt"))


@pytest.mark.slow
def test_finished_runs_are_compared_by_a_users_metrics(finished, make_config, capsys):
    changes = {"optimizer.lr": 0.01, "report.enabled": False}
    other = Experiment(make_config(metrics=["auroc"], **changes))
    other.run()
    folders = [str(finished.run_dir), str(other.run_dir)]
    assert compare([*folders, "--out", str(finished.run_dir.parent / "both")]) == 0
    shown = capsys.readouterr().out
    assert "net_benefit" in shown
    table = (finished.run_dir.parent / "both" / "model_comparison.csv").read_text("utf-8")
    assert "net_benefit_difference_low" in table.splitlines()[0]


def test_entries_are_written_as_they_were_given():
    config = check_config({"metrics": CHOSEN})
    assert config.metric_names == NAMES
    assert check_config(config.plain()).metrics == config.metrics


@pytest.mark.parametrize("wrong", [3, {"nme": "auroc"}, [["auroc"]]])
def test_an_entry_that_is_no_name_is_one_line(wrong):
    with pytest.raises(UsageError, match=r"metrics\.0") as error:
        check_config({"metrics": [wrong]})
    assert "\n" not in str(error.value)
