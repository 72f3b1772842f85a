from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from datasets.audit import Finding
from experiments.config import check_config
from experiments.report.report_content import ReportContent
from experiments.report.report_page import render_report
from experiments.runs import Experiment
from tests.experiments.report.made_outputs import NAMES
from tests.experiments.report.made_report import NASTY, make_content, nasty_names
from tests.experiments.report.opened_page import CHROMIUM, launched, opened, show_everything


def sections(text: str) -> list[str]:
    return re.findall(r'<section id="([\w-]+)"', text)


def page_data(text: str) -> Any:
    (found,) = re.findall(r'<script type="application/json" id="page-data">(.*?)</script>', text)
    return json.loads(found)


@pytest.fixture(scope="module")
def finished() -> str:
    return render_report(make_content("binary"))


def test_the_page_holds_the_library_once_and_no_address(finished):
    assert finished.count("plotly.js v") == 1
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=", finished)
    assert "default-src 'none'" in finished
    assert page_data(finished)["config"]["showSendToCloud"] is False


@pytest.mark.parametrize("task", sorted(NAMES))
def test_each_task_has_the_sections_that_fit_it(task):
    own = ["predictions"] if task == "regression" else ["threshold", "reliability"]
    text = render_report(make_content(task))
    assert sections(text) == [
        "overview",
        "training",
        *own,
        "errors",
        "explorer",
        "importance",
        "embedding",
        "settings",
        "environment",
    ]
    assert re.findall(r'<li><a href="#([\w-]+)"', text) == sections(text)


def test_what_was_not_found_out_is_said_in_a_sentence(finished):
    assert "Embeddings were not stored." in finished


def test_all_that_the_audit_found_stands_in_the_overview():
    found = [
        Finding("order", "warn", 0.8, "the order predicts <the label>", (0.7, 0.9), accepted=True),
        Finding("counts:test", "note", 12, "few samples"),
    ]
    overview = render_report(make_content("binary", audit=found)).partition('id="training"')[0]
    for part in ("the order predicts &lt;the label&gt; (it was accepted).", "0.80 (0.70 to 0.90)"):
        assert part in overview
    assert overview.index("few samples.") < overview.index(">12<")
    assert "Nothing was found." in render_report(make_content("binary", audit=[]))
    assert "The data were not audited." in render_report(make_content("binary", audit=None))


@pytest.mark.slow
@pytest.mark.parametrize("reason", ["one class", "no number"])
def test_where_nothing_can_be_ranked_the_page_says_so(reason):
    content = make_content("binary")
    if reason == "one class":
        test = replace(content.test, target=torch.zeros_like(content.test.target))
    else:
        test = replace(content.test, logits=torch.full_like(content.test.logits, torch.nan))
    content = replace(content, test=test)
    text = render_report(content)
    assert page_data(text)["outcome"]["ranked"] == []
    assert re.search(r'id="threshold".*?No ranking', text, re.DOTALL)
    assert "errors" not in sections(text)


def test_a_run_that_has_only_begun_has_a_page():
    text = render_report(ReportContent("new", "running", 0, 10, "binary", ["a", "b"]))
    assert sections(text) == ["overview", "settings"]
    assert '<meta http-equiv="refresh" content="30">' in text
    assert "training: epoch 0 of 10" in text


def test_only_a_page_of_a_run_that_goes_on_reloads_itself(finished):
    assert 'http-equiv="refresh"' not in finished
    running = make_content("binary", status="running", test=None, samples=None)
    assert 'http-equiv="refresh"' in render_report(running)


@pytest.mark.parametrize("task", sorted(NAMES))
def test_no_name_becomes_markup(task):
    content = make_content(task, names=nasty_names(task), title=NASTY[0], settings=NASTY[0])
    content = replace(content, groups=dict.fromkeys(content.test.sample_id, NASTY[3]))
    text = render_report(content)
    assert "<script>window" not in text
    assert "<img" not in text
    assert "<b>bold" not in text


def test_figures_show_their_intervals(finished):
    assert "95% 0.850 to 0.970" in finished
    assert "validation 0.9300" in finished


@pytest.fixture(scope="module")
def labelled_cohort(tmp_path_factory, cohort_dir) -> Path:
    """The small cohort with two labels that a patient may have both of."""
    root = tmp_path_factory.mktemp("cohorts") / "labelled"
    shutil.copytree(cohort_dir, root)
    table = pd.read_csv(root / "samples.csv", dtype={"sample_id": str})
    table["heavy"] = (table["BMI"] > table["BMI"].median()).astype(int)
    table["inflamed"] = (table["CRP"] > table["CRP"].median()).astype(int)
    table.to_csv(root / "samples.csv", index=False)
    return root


@pytest.mark.slow
@pytest.mark.usefixtures("few_trees")
@pytest.mark.parametrize(
    ("task", "labels"),
    [
        ("regression", ["age"]),
        ("regression", ["age", "BMI"]),
        ("multilabel", ["heavy", "inflamed"]),
    ],
)
def test_a_run_of_each_task_writes_its_page(task, labels, labelled_cohort, tmp_path):
    data = {"root": str(labelled_cohort), "task": task, "label": labels}
    data |= {"numeric": ["ALT", "AST"], "categorical": ["sex"]}
    config = check_config(
        {
            "runs_dir": str(tmp_path),
            "data": data,
            "model": {"name": "tabular_only"},
            "trainer": {"max_epochs": 1, "device": "cpu"},
            "report": {"resamples": 50, "language": "zh"},
        }
    )
    experiment = Experiment(config)
    experiment.run()
    text = (experiment.run_dir / "report" / "index.html").read_text("utf-8")
    assert '<html lang="zh-CN">' in text
    found = page_data(text)
    assert found["names"] == labels
    assert found["samples"]["id"] == experiment.outputs["test"].sample_id
    for name in config.metric_names:
        assert f'data-en="{name}"' in text
    # The page is handed on: it does not tell on whose machine the run was.
    assert str(tmp_path) not in text
    assert str(labelled_cohort.parent) not in text


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome on this machine")
def test_the_page_of_a_real_run_opens_from_the_disk(cohort_dir, tmp_path):
    config = check_config(
        {
            "exp_name": "page",
            "runs_dir": str(tmp_path),
            "data": {"root": str(cohort_dir), "labels": {"control": 0, "case": 1}},
            "model": {"name": "tabular_only"},
            "trainer": {"max_epochs": 2, "device": "cpu"},
            "report": {"resamples": 50},
            "baselines": {"enabled": False},
        }
    )
    experiment = Experiment(config)
    experiment.run()
    path = experiment.run_dir / "report" / "index.html"
    with launched() as browser, opened(browser, path) as page:
        show_everything(page)
        first = experiment.outputs["test"].sample_id[0]
        page.evaluate("name => { location.hash = 'sample=' + name; }", first)
        page.locator("#sample-name").get_by_text(first, exact=True).wait_for()
        assert page.locator("#sample-covariates tbody tr").count() == len(
            [*experiment.data.cohort.numeric, *experiment.data.cohort.categorical]
        )
