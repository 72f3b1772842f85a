from __future__ import annotations

import math
import re
from dataclasses import replace

import pandas as pd
import pytest
import torch
from sklearn.metrics import log_loss
from torch import nn

from engine.statistics import delong_test
from experiments.enhanced_trainer.evaluation import (
    OWN,
    common_loss,
    compare,
    summarise_model,
    write_comparison,
)
from models import TFTMultimodal
from tests.experiments.report.made_outputs import NAMES, make_outputs


def test_counts_and_size_agree_with_torchs_own():
    model = TFTMultimodal(tab_dim=4, spec_len=48, patch_size=16)
    for parameter in model.head.parameters():
        parameter.requires_grad_(False)
    model.register_buffer("kept", torch.zeros(10, dtype=torch.float64))
    summary = summarise_model(model)
    parameters = sum(p.numel() for p in model.parameters())
    assert summary["parameters"] == parameters
    frozen = sum(p.numel() for p in model.head.parameters())
    assert summary["trainable"] == parameters - frozen
    own = {name for name, _ in model.named_buffers()}
    held = [*model.parameters(), *(dict(model.named_buffers())[name] for name in own)]
    assert summary["size_mb"] == pytest.approx(
        sum(t.element_size() * t.nelement() for t in held) / 1e6
    )
    for name, module in model.named_children():
        expected = sum(p.numel() for p in module.parameters())
        assert summary["modules"].get(name, {"parameters": 0})["parameters"] == expected
    assert summary["modules"]["head"]["trainable"] == 0
    assert summary["model"] == "TFTMultimodal"


def test_shared_and_own_parameters_are_counted_once():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(3, 3)
            self.second = nn.Linear(3, 3)
            self.second.weight = self.first.weight
            self.scale = nn.Parameter(torch.ones(1))

    summary = summarise_model(Tied())
    assert summary["parameters"] == sum(p.numel() for p in Tied().parameters()) == 9 + 3 + 3 + 1
    assert summary["modules"]["second"]["parameters"] == 3
    assert summary["modules"][OWN]["parameters"] == 1


def measured(task):
    def measure(model):
        return {"loss": 9.0, "own_term": 1.0, "auroc": 0.75}, make_outputs(task)

    return measure


def test_models_are_compared_by_one_common_loss():
    outputs = make_outputs("multiclass")
    table = compare({"net": nn.Linear(2, 1)}, measured("multiclass"))[0]
    expected = log_loss(outputs.target.numpy(), outputs.probabilities.numpy())
    assert table.loc[0, "loss"] == pytest.approx(expected, abs=1e-6)
    assert "own_term" not in table
    assert table.loc[0, "auroc"] == 0.75
    assert table.loc[0, "parameters"] == 3
    assert table["seconds"].ge(0).all()


def test_models_of_two_classes_are_tested_against_the_best():
    worse, better = make_outputs("binary"), make_outputs("binary")
    better = replace(better, logits=better.logits + 2 * torch.eye(2)[better.target])
    models = {"worse": nn.Linear(2, 1), "better": nn.Linear(2, 1)}
    given = iter([worse, better])
    table = compare(models, lambda model: ({"auroc": 0.5}, next(given)))[0]
    good, bad = (found.probabilities[:, 1] for found in (better, worse))
    against_itself, expected = math.nan, delong_test(good, bad, worse.target).p_value
    assert table["delong_p"].tolist() == pytest.approx([expected, against_itself], nan_ok=True)
    assert expected < 0.5


@pytest.mark.parametrize("task", sorted(NAMES))
def test_the_common_loss_is_defined_for_every_task(task):
    assert math.isfinite(common_loss(make_outputs(task)))


def test_the_page_has_bars_a_table_and_both_kinds_of_curves(tmp_path):
    table = compare({"net": nn.Linear(2, 1)}, measured("multiclass"))[0]
    outputs = {"net": make_outputs("multiclass")}
    written, _ = write_comparison(table, outputs, tmp_path, NAMES["multiclass"])
    table_path, page, curves = written
    pd.testing.assert_frame_equal(pd.read_csv(table_path), table)
    assert re.findall(r'id="figure-(\w+)"', page.read_text("utf-8")) == ["metrics"]
    assert re.findall(r'id="figure-(\w+)"', curves.read_text("utf-8")) == ["roc", "pr"]
    for metric in ("loss", "auroc"):
        assert f'"text":"{metric}"' in page.read_text("utf-8")
    assert '"text":"delong_p"' not in page.read_text("utf-8")


def test_values_are_shown_against_the_truth_instead_of_curves(tmp_path):
    table = pd.DataFrame({"model": ["a"], "mae": [0.5]})
    outputs = {"a": make_outputs("regression")}
    written, _ = write_comparison(table, outputs, tmp_path, NAMES["regression"])
    assert [path.name for path in written] == ["model_comparison.csv", "model_comparison.html"]
    assert 'id="figure-predictions"' in written[1].read_text("utf-8")


@pytest.mark.slow
def test_where_nothing_can_be_ranked_the_page_says_so(tmp_path):
    outputs = make_outputs("binary")
    outputs.target.fill_(0)
    table = pd.DataFrame({"model": ["a"], "auroc": [math.nan]})
    write_comparison(table, {"a": outputs}, tmp_path, NAMES["binary"])
    assert "undefined" in (tmp_path / "roc_comparison.html").read_text()
    assert "undefined" in (tmp_path / "model_comparison.html").read_text()


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_the_figures_of_each_page_go_into_an_image_beside_it(tmp_path, monkeypatch, task):
    wanted = {}

    def keep(images):
        wanted.update(images)
        return "no browser"

    monkeypatch.setattr("experiments.report.result_pages.write_images", keep)
    table = pd.DataFrame({"model": ["a"], "loss": [0.5]})
    written, note = write_comparison(table, {"a": make_outputs(task)}, tmp_path, NAMES[task])
    assert note == "no browser"
    pages = [path for path in written if path.suffix == ".html"]
    assert list(wanted) == [page.with_suffix(".png") for page in pages]
    assert [len(figures) for figures in wanted.values()] == ([1, 2] if task == "binary" else [2])


def test_the_loss_of_unlike_units_is_relative_to_the_spread():
    outputs = make_outputs("regression")
    scaled = replace(
        outputs,
        target=outputs.target * torch.tensor([1.0, 1e6]),
        logits=outputs.logits * torch.tensor([1.0, 1e6]),
    )
    assert common_loss(scaled) == pytest.approx(common_loss(outputs), rel=1e-5)
    one = replace(outputs, target=outputs.target[:, :1], logits=outputs.logits[:, :1])
    errors = (one.predictions - one.target).square()
    assert common_loss(one) == pytest.approx(float(errors.mean()), rel=1e-5)
