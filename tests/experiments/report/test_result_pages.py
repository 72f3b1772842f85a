from __future__ import annotations

import importlib.util
import re
import shutil

import pytest
import torch

from engine.evaluator import Evaluator
from engine.metrics import EpochMetrics
from experiments.analysis import AnalysisCollector, TestAnalysis
from experiments.enhanced_trainer import AnyLoader, Names, find_task, look_at_model
from experiments.report.figures import examine
from experiments.report.result_pages import ResultPages, write_named_figures
from models import TFTMultimodal
from tests.experiments.report.made_examined import make_examined
from tests.experiments.report.run_outcome import make_outcome

pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
# As root, and with no network to reach out to.
CHROMIUM_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SAMPLES, S, L, D = 20, 3, 48, 4
COVARIATES = ["age", "sex=m", "CRP", "<b>bold</b>"]
PAGES = (
    "evaluation_plots",
    "feature_importance",
    "shap_analysis",
    "pca_analysis",
    "attention_analysis",
)


def write_pages(folder, task="binary"):
    """The pages of an untrained model, of all five kinds."""
    torch.manual_seed(0)
    label = {"binary": torch.arange(SAMPLES) % 2, "regression": torch.randn(SAMPLES)}[task]
    mask = torch.arange(S) < torch.randint(1, S + 1, (SAMPLES,))[:, None]
    spectra, tabular = torch.randn(SAMPLES, S, L), torch.randn(SAMPLES, D)
    loader = AnyLoader([(spectra, mask, tabular, label)], "test_loader")
    classes = ["control", "case"] if task == "binary" else ["BMI"]
    model = TFTMultimodal(D, L, num_classes=len(classes), patch_size=16, d_model=16, num_layers=1)
    found = find_task(model, loader, torch.device("cpu"))
    evaluator = Evaluator(model, found.loss, EpochMetrics(task=found.name))
    kept = AnalysisCollector()
    with kept.attached(evaluator):
        metrics = evaluator.evaluate(loader)
    outputs = evaluator.metrics.outputs
    assert outputs is not None
    axis = torch.linspace(2000, 9000, L).numpy()
    examined, shap = look_at_model(
        model, loader, outputs, kept, Names(classes, COVARIATES, axis, "m/z")
    )
    pages = ResultPages(folder, "my model", examined)
    pages.evaluation(metrics)
    pages.importance()
    pages.shap(shap)
    pages.pca()
    pages.attention()
    return pages, metrics


@pytest.fixture(scope="module")
def classified(tmp_path_factory):
    """The folder with the pages of a classification, and what was measured."""
    path = tmp_path_factory.mktemp("pages")
    return path, write_pages(path)[1]


@pytest.fixture
def folder(classified):
    return classified[0]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_holds_all_it_needs_and_asks_for_nothing(folder, name):
    text = (folder / f"{name}.html").read_text("utf-8")
    assert text.count("plotly.js v") == 1
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=", text)
    figures = len(re.findall(r'<div id="figure-', text))
    assert figures >= 2
    assert text.count('"showSendToCloud": false') == figures
    assert "<b>bold</b>" not in text


def test_names_that_were_given_are_shown(folder):
    text = (folder / "feature_importance.html").read_text("utf-8")
    assert "the log-odds of case" in text
    assert "sex=m" in text or "sex\\u003dm" in text
    assert "m\\u002fz" in text or "m/z" in text


def test_every_metric_is_in_the_table(classified):
    path, metrics = classified
    text = (path / "evaluation_plots.html").read_text("utf-8")
    for name, value in metrics.items():
        assert re.search(rf'<th scope="row">{name}</th><td>{value:.4f}</td>', text), name


def test_a_regression_has_pages_of_its_own(tmp_path):
    pages, _ = write_pages(tmp_path, "regression")
    assert {path.stem for path in pages.written} == set(PAGES)
    text = (tmp_path / "evaluation_plots.html").read_text("utf-8")
    assert 'id="figure-residuals"' in text
    assert 'id="figure-confusion"' not in text
    text = (tmp_path / "feature_importance.html").read_text("utf-8")
    assert "the prediction of BMI" in text


def test_what_was_not_looked_for_is_said(tmp_path):
    pages = ResultPages(tmp_path, "my model", make_examined(findings=TestAnalysis(), inputs=None))
    pages.importance()
    pages.shap()
    pages.pca()
    pages.attention()
    assert len(pages.written) == 4
    for path in pages.written:
        assert "Nothing to show" in path.read_text("utf-8")


def test_attributions_by_another_method_can_be_summarised(tmp_path):
    pages = ResultPages(tmp_path, "my model", make_examined())
    pages.shap()
    own = (tmp_path / "shap_analysis.html").read_text("utf-8")
    assert "Attributions by integrated gradients" in own
    assert "mean |attribution|" in own
    pages.shap(make_examined(method="gradient_shap").findings.explained)
    other = (tmp_path / "shap_analysis.html").read_text("utf-8")
    assert "By expected gradients" in other
    assert "mean |SHAP value|" in other


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome on this machine")
def test_the_pages_open_from_the_disk_without_errors_or_requests(folder):
    from playwright.sync_api import sync_playwright

    problems, requests = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        for name in PAGES:
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("request", lambda request: requests.append(request.url))
            page.goto((folder / f"{name}.html").as_uri())
            page.wait_for_selector(".plotly-graph-div .main-svg")
            drawn = page.locator(".plotly-graph-div:has(.main-svg)").count()
            assert drawn == page.locator(".plotly-graph-div").count() >= 2
            page.set_viewport_size({"width": 390, "height": 800})
            assert not page.evaluate("document.documentElement.scrollWidth > innerWidth + 1"), name
            page.close()
        browser.close()
    assert problems == []
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []


NAMES = {
    "evaluation_plots",
    "feature_importance",
    "shap_analysis",
    "pca_analysis",
    "attention_analysis",
}
CHROME = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def outcome(cohort_dir, tmp_path_factory):
    return make_outcome(cohort_dir, tmp_path_factory.mktemp("runs"))


@pytest.fixture
def without_kaleido(monkeypatch):
    """Whether it is installed or not."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *others: None if name == "kaleido" else find(name, *others),
    )


@pytest.mark.usefixtures("without_kaleido")
def test_the_named_pages_need_no_model_call(outcome):
    folder = outcome.run_dir / "report"
    curves = folder / "training_curves.html"
    before = curves.read_bytes()
    note = write_named_figures(outcome, examine(outcome))
    paths = set(folder.glob("*.html")) - {curves, folder / "index.html"}
    assert {path.stem for path in paths} == NAMES
    assert note is not None
    assert "kaleido" in note
    assert curves.read_bytes() == before
    for path in paths:
        text = path.read_text("utf-8")
        assert "Nothing to show" not in text
        assert text.count("plotly.js v") == 1


@pytest.mark.usefixtures("without_kaleido")
def test_what_is_not_shap_is_not_called_so(outcome):
    write_named_figures(outcome, examine(outcome))
    text = (outcome.run_dir / "report" / "shap_analysis.html").read_text("utf-8")
    assert "Attributions by integrated gradients" in text
    assert "mean |SHAP value|" not in text


@pytest.mark.skipif(CHROME is None, reason="no Chromium or Chrome on this machine")
def test_with_a_chrome_every_page_has_an_image(outcome):
    pytest.importorskip("kaleido")
    assert write_named_figures(outcome, examine(outcome)) is None
    images = set((outcome.run_dir / "report").glob("*.png"))
    assert {path.stem for path in images} == NAMES | {"training_curves"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in images)
