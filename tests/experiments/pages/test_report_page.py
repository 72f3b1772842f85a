from __future__ import annotations

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from experiments.config_source import check_config
from experiments.experiment import Experiment

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
# As root, and with no network to reach out to.
CHROMIUM_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="module")
def page_path(tmp_path_factory, cohort_dir) -> Path:
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


@pytest.mark.parametrize(
    ("task", "labels", "sections"),
    [
        ("regression", ["age"], ["training", "predictions", "residuals"]),
        ("regression", ["age", "BMI"], ["training", "predictions", "residuals"]),
        ("multilabel", ["heavy", "inflamed"], ["training", "ranking", "confusion", "scores"]),
    ],
)
def test_each_task_has_a_page_with_its_own_figures(
    task, labels, sections, labelled_cohort, tmp_path
):
    data = {"root": str(labelled_cohort), "task": task, "label": labels}
    data |= {"numeric": ["ALT", "AST"], "categorical": ["sex"]}
    config = check_config(
        {
            "runs_dir": str(tmp_path),
            "data": data,
            "model": {"name": "tabular_only"},
            "trainer": {"max_epochs": 1, "device": "cpu"},
        }
    )
    experiment = Experiment(config)
    experiment.run()
    text = (experiment.run_dir / "report" / "index.html").read_text("utf-8")
    assert re.findall(r'id="figure-(\w+)"', text) == sections
    for name in config.metrics:
        assert f"</b>{name}<br>" in text
