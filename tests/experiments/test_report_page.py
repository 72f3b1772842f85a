from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch

from engine.metrics import EpochOutputs
from experiments import figures
from experiments.experiment import Experiment
from experiments.report_page import figure_div

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
# As root, and with no network to reach out to.
CHROMIUM_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="module")
def page_path(tmp_path_factory, cohort_dir) -> Path:
    from experiments.config_source import check_config

    config = check_config(
        {
            "exp_name": "page",
            "runs_dir": str(tmp_path_factory.mktemp("runs")),
            "data": {"root": str(cohort_dir), "labels": {"control": 0, "case": 1}},
            "model": {"name": "tabular_only"},
            "trainer": {"max_epochs": 2, "device": "cpu"},
        }
    )
    experiment = Experiment(config)
    experiment.run()
    return experiment.run_dir / "report" / "index.html"


def test_the_page_holds_the_library_once_and_names_no_other_address(page_path):
    text = page_path.read_text("utf-8")
    assert text.count("plotly.js v") == 1
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=", text)
    assert text.count('"showSendToCloud": false') == 4


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome on this machine")
def test_the_page_opens_from_the_disk_in_a_browser_without_errors_or_requests(page_path):
    from playwright.sync_api import sync_playwright

    problems, requests = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(page_path.as_uri())
        page.wait_for_selector("#figure-confusion .heatmaplayer")
        drawn = page.locator(".plotly-graph-div .main-svg").count()
        buttons = page.locator("[data-title]").evaluate_all(
            "buttons => buttons.map(button => button.dataset.title)"
        )
        curve = page.locator("#figure-ranking .scatterlayer .trace")
        before = curve.count()
        page.locator("#figure-ranking .legendtoggle").first.click()
        page.wait_for_timeout(600)  # a click waits whether a second one follows
        after = page.locator("#figure-ranking .legend .traces[style*='opacity: 0.5']").count()
        page.set_viewport_size({"width": 390, "height": 800})
        page.wait_for_timeout(300)
        overflow = page.evaluate("document.documentElement.scrollWidth > innerWidth + 1")
        browser.close()
    assert problems == []
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert drawn >= 4
    assert not [title for title in buttons if re.search("cloud|share|upload", title, re.I)]
    assert before > 0
    assert after == 1
    assert not overflow, "the page is wider than a phone"


def make_outputs(classes: int) -> EpochOutputs:
    torch.manual_seed(0)
    target = torch.arange(30) % classes
    logits = torch.randn(30, classes) + torch.eye(classes)[target]
    return EpochOutputs(logits, target, [f"s{i}" for i in range(30)], {"total_loss": 0.5})


@pytest.mark.parametrize("classes", [2, 4])
def test_every_class_that_can_be_ranked_has_its_curve(classes):
    names = [f"c{i}" for i in range(classes)]
    figure = figures.ranking_curves(make_outputs(classes), names)
    curves = {trace.name for trace in figure.data} - {"chance"}
    assert curves == ({"c1"} if classes == 2 else set(names))


def test_a_class_that_is_absent_has_no_curve():
    outputs = make_outputs(2)
    outputs.target.fill_(0)
    figure = figures.ranking_curves(outputs, ["a", "b"])
    assert {trace.name for trace in figure.data} == {"chance"}


def test_the_confusion_matrix_counts_every_sample_once():
    outputs = make_outputs(3)
    (heatmap,) = figures.confusion(outputs, ["a", "b", "c"]).data
    assert sum(map(sum, heatmap.z)) == 30
    right = int((outputs.logits.argmax(1) == outputs.target).sum())
    assert sum(heatmap.z[i][i] for i in range(3)) == right


def test_names_are_shown_as_text():
    figure = figures.confusion(make_outputs(2), ["<script>alert(1)</script>", "b"])
    assert "<script>alert" not in str(figure_div("confusion", figure))
