from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import precision_recall_fscore_support

from engine.metrics import EpochOutputs, metric_value
from experiments.report.text.markdown_text import class_table
from tests.experiments.report.made_outputs import NAMES, make_outputs


def rows_of(table: str) -> dict[str, list[float]]:
    lines = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    as_number = {"undefined": math.nan}
    return {n: [as_number.get(v) or float(v) for v in values] for n, *values in lines}


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_each_class_has_its_own_row_and_the_averages_follow(task):
    outputs = make_outputs(task)
    rows = rows_of(class_table(outputs, NAMES[task]))
    assert list(rows) == [*NAMES[task], "macro average", "weighted average"]
    target, predicted = outputs.target.long(), outputs.predictions
    for number, name in enumerate(NAMES[task]):
        one = (
            (target[:, number], predicted[:, number])
            if task == "multilabel"
            else (target == number, predicted == number)
        )
        hits = int((one[0].bool() & one[1].bool()).sum())
        precision, recall = hits / int(one[1].sum()), hits / int(one[0].sum())
        f1 = 2 * precision * recall / (precision + recall)
        assert rows[name] == pytest.approx([precision, recall, f1, int(one[0].sum())], abs=1e-4)
    macro = precision_recall_fscore_support(target, predicted, average="macro")[:3]
    assert rows["macro average"][:3] == pytest.approx(macro, abs=1e-4)


def test_an_absent_unpredicted_class_is_undefined():
    logits = torch.tensor([[2.0, 0, 0], [0, 2, 0], [2, 0, 0]])
    outputs = EpochOutputs(logits, torch.tensor([0, 1, 0]), ["a", "b", "c"], {})
    table = class_table(outputs, ["x", "y", "z"])
    assert "| z | undefined | undefined | undefined | 0 |" in table
    assert "| macro average | undefined | undefined | undefined | 3 |" in table
    assert rows_of(table)["weighted average"] == [1, 1, 1, 3]


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_the_macro_averages_are_the_metrics_of_these_names(task):
    outputs = make_outputs(task)
    told = rows_of(class_table(outputs, NAMES[task]))["macro average"]
    metrics = [metric_value(name, outputs) for name in ("precision", "recall", "f1")]
    assert told[:3] == pytest.approx(metrics, abs=1e-4)


def test_classes_may_be_called_as_the_averages_are():
    outputs = make_outputs("binary")
    named = class_table(outputs, ["accuracy", "macro avg"])
    plain = class_table(outputs, ["one", "two"])
    assert named == plain.replace("| one |", "| accuracy |").replace("| two |", "| macro avg |")


def test_a_single_label_is_reported_by_where_it_is_there():
    logits, target = torch.tensor([[1.0], [1], [-1], [-1]]), torch.tensor([[1.0], [0], [1], [1]])
    outputs = EpochOutputs(logits, target, list("abcd"), {}, "multilabel")
    assert rows_of(class_table(outputs, ["ill"]))["ill"] == [0.5, 0.3333, 0.4, 3]


def test_a_name_with_control_characters_keeps_to_its_cell():
    assert "| a\\|b\\_c |" in class_table(make_outputs("binary"), ["a|b_c", "d"])


def test_a_regression_has_none():
    with pytest.raises(ValueError, match="no classes"):
        class_table(make_outputs("regression"), NAMES["regression"])
