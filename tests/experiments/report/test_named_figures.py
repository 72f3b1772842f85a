from __future__ import annotations

import importlib.util
import shutil

import pytest

from experiments.report.figures import FindingSections, examine
from experiments.report.named_figures import write_named_figures
from tests.experiments.report.run_outcome import make_outcome

pytestmark = pytest.mark.slow

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
def test_the_named_pages_stand_beside_the_report_without_calling_the_model(outcome):
    curves = outcome.run_dir / "report" / "training_curves.html"
    before = curves.read_bytes()
    paths, note = write_named_figures(outcome, FindingSections(examine(outcome)))
    assert {path.stem for path in paths} == NAMES
    assert {path.parent for path in paths} == {outcome.run_dir / "report"}
    assert note is not None
    assert "kaleido" in note
    assert curves.read_bytes() == before
    for path in paths:
        text = path.read_text("utf-8")
        assert "Nothing to show" not in text
        assert text.count("plotly.js v") == 1


@pytest.mark.usefixtures("without_kaleido")
def test_what_is_not_shap_is_not_called_so(outcome):
    write_named_figures(outcome, FindingSections(examine(outcome)))
    text = (outcome.run_dir / "report" / "shap_analysis.html").read_text("utf-8")
    assert "Attributions by integrated gradients" in text
    assert "mean |SHAP value|" not in text


@pytest.mark.browser
@pytest.mark.skipif(CHROME is None, reason="no Chromium or Chrome on this machine")
def test_with_a_chrome_every_page_has_an_image(outcome):
    pytest.importorskip("kaleido")
    paths, note = write_named_figures(outcome, FindingSections(examine(outcome)))
    assert note is None
    images = {path.stem for path in paths if path.suffix == ".png"}
    assert images == NAMES | {"training_curves"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths if path.suffix == ".png")
