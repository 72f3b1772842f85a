from __future__ import annotations

import torch

from datasets.errors import nearest
from datasets.messages import Message
from engine.metrics import EpochOutputs
from experiments.report.report_payload import as_script
from experiments.report.text.markdown_text import class_table, escape_markdown, fenced
from experiments.report.words import Words


def test_the_nearest_choice_ends_an_error_line():
    assert nearest("agee", ["age", "sex"]) == "; did you mean 'age'? (choices: age, sex)"


def test_json_in_a_script_ends_no_element():
    text = as_script({"name": "</script>", "threshold": float("nan")})
    assert text == '{"name":"\\u003c/script>","threshold":null}'


def test_markdown_shows_a_name_as_it_is():
    assert escape_markdown("CRP_max|mg*L") == r"CRP\_max\|mg\*L"
    assert fenced("a: 1", "yaml").splitlines() == ["```yaml", "a: 1", "```"]


def test_the_table_of_classes_ends_with_both_averages():
    logits = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
    outputs = EpochOutputs(logits, torch.tensor([0, 1, 1]), ["a", "b", "c"], {})
    assert class_table(outputs, ["control", "case"]).splitlines() == [
        "| class | precision | recall | F1 | support |",
        "|---|---|---|---|---|",
        "| control | 0.5000 | 1.0000 | 0.6667 | 1 |",
        "| case | 1.0000 | 0.5000 | 0.6667 | 2 |",
        "| macro average | 0.7500 | 0.7500 | 0.6667 | 3 |",
        "| weighted average | 0.8333 | 0.6667 | 0.6667 | 3 |",
    ]


def test_phrases_are_translated_and_names_are_not():
    words = Words("zh", names=["training"])
    assert words.translate(Message("scan {}", 3)) == "扫描 3"
    assert words.translate("validation") == "验证集"
    assert words.translate("training") == "training"
