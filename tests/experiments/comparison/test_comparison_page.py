from __future__ import annotations

import math
import re
import shutil

import pandas as pd
import pytest

from datasets.errors import UsageError
from engine.metrics import TASKS
from engine.statistics import holm
from experiments.comparison.comparison_page import write_run_comparison
from experiments.comparison.run_comparison import compare_runs
from experiments.run_files import read_runs
from tests.experiments.made_runs import drawn, make_run
from tests.experiments.report.made_outputs import NAMES as MADE_NAMES

pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
CHROMIUM_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
NAMES = ("first", "second", "third")
LONG_NAME = "concentration_of_c_reactive_protein_in_serum" * 2


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Three runs of each task, and the folder of their comparison."""
    made = {}
    for task in TASKS:
        root = tmp_path_factory.mktemp(task)
        folders = [
            make_run(root / name, drawn(task, number, 1 + number), optimizer__lr=10.0**-number)
            for number, name in enumerate(NAMES)
        ]
        comparison = compare_runs(read_runs(folders), 100)
        written, _ = write_run_comparison(comparison, root)
        made[task] = comparison, root, written
    return made


@pytest.fixture(scope="module")
def with_long_names(tmp_path_factory):
    """The pages of two regressions whose names are wider than a small screen."""
    root = tmp_path_factory.mktemp("long")
    names = [f"{LONG_NAME}_{number}" for number in range(len(MADE_NAMES["regression"]))]
    folders = [
        make_run(root / f"{LONG_NAME}_{run}", drawn("regression", run), names) for run in range(2)
    ]
    return write_run_comparison(compare_runs(read_runs(folders), 100), root)[0][1:]


@pytest.mark.parametrize("task", TASKS)
def test_curves_are_written_where_there_is_a_ranking(compared, task):
    _, root, written = compared[task]
    expected = ["model_comparison.csv", "model_comparison.html"]
    if task != "regression":
        expected.append("roc_comparison.html")
    assert [path.name for path in written] == expected
    assert sorted(path.name for path in root.iterdir() if path.is_file()) == expected
    text = (root / "model_comparison.html").read_text("utf-8")
    figures = ["figures", "differences"] + ["predictions"] * (task == "regression")
    assert re.findall(r'id="figure-(\w+)"', text) == figures
    assert ('id="tests"' in text) is (task in ("binary", "multiclass"))


@pytest.mark.parametrize("task", TASKS)
def test_the_table_holds_every_figure(compared, task):
    comparison, root, _ = compared[task]
    table = pd.read_csv(root / "model_comparison.csv").set_index("run")

    def cells(run, columns):
        return [float(table[column][run]) for column in columns]

    assert list(table.index) == list(NAMES)
    for run in NAMES:
        assert cells(run, ["samples", "parameters", comparison.monitor]) == [40, 1234, 0.8]
    for name in comparison.metrics:
        for number, run in enumerate(NAMES):
            found = comparison.figures[number][name]
            row = cells(run, [name, f"{name}_low", f"{name}_high"])
            assert row == pytest.approx([found.value, found.low, found.high], nan_ok=True)
        apart = comparison.differences[1][name]
        columns = [f"{name}_difference{end}" for end in ("", "_low", "_high")]
        expected = [apart.value, apart.low, apart.high]
        assert cells("third", columns) == pytest.approx(expected, nan_ok=True)
        assert all(map(math.isnan, cells("first", columns)))
    assert ("delong_p" in table) is (task == "binary")
    if task == "binary":
        delong, mcnemar = (
            [test.p_value for test in tests] for tests in (comparison.delong, comparison.mcnemar)
        )
        columns = ["delong_p", "delong_p_holm", "mcnemar_p", "mcnemar_p_holm"]
        assert cells("second", columns) == pytest.approx(
            [delong[0], holm(delong)[0], mcnemar[0], holm(mcnemar)[0]]
        )
        assert all(map(math.isnan, cells("first", columns)))


def test_the_page_says_what_was_done_and_what_differs(compared):
    comparison, root, _ = compared["binary"]
    text = (root / "model_comparison.html").read_text("utf-8")
    found = comparison.figures[0]["auroc"]
    assert f"{found.value:.4f} ({found.low:.3f} to {found.high:.3f})" in text
    assert "Holm 1979" in text
    assert "100 resamples of the 40 groups" in text
    assert f"{holm([test.p_value for test in comparison.delong])[0]:.4f}" in text
    assert re.search(r"optimizer\.lr</th><td>1.0</td><td>0.1</td><td>0.01</td>", text)
    assert 'id="warnings"' not in text


def test_what_the_reader_has_to_know_comes_first(tmp_path):
    outputs = drawn("binary")
    fewer = type(outputs)(
        outputs.logits[:30], outputs.target[:30], outputs.sample_id[:30], {}, "binary"
    )
    folders = [
        make_run(tmp_path / "a", outputs),
        make_run(tmp_path / "b", fewer, environment={"data": {"samples.csv": "f" * 64}}),
    ]
    write_run_comparison(compare_runs(read_runs(folders), 100), tmp_path)
    text = (tmp_path / "model_comparison.html").read_text("utf-8")
    sections = re.findall(r'<section id="(\w+)"', text)
    assert sections[:3] == ["warnings", "notes", "figures"]
    assert "b is of another cohort than a" in text
    assert "The test sets differ (a: 40)" in text
    assert "data.samples.csv" in text


def test_names_are_text_never_markup(tmp_path):
    folders = [
        make_run(tmp_path / name, drawn("binary", n), ["no", "<img src=x>"])
        for n, name in enumerate(["<b>one", "two"])
    ]
    write_run_comparison(compare_runs(read_runs(folders), 100), tmp_path)
    for page in ("model_comparison.html", "roc_comparison.html"):
        body = (tmp_path / page).read_text("utf-8").partition("<body>")[2]
        assert "<b>one" not in body
        assert "<img" not in body
        assert "&lt;b&gt;one" in body


def test_a_folder_that_cannot_be_written_to_is_said(compared, tmp_path):
    with pytest.raises(UsageError, match="cannot write to"):
        write_run_comparison(compared["binary"][0], tmp_path / "missing")


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome on this machine")
def test_the_pages_open_from_the_disk_without_errors_or_requests(compared, with_long_names):
    from playwright.sync_api import sync_playwright

    problems, requests = [], []
    # Those of the other classifications differ in the number of panels.
    pages = [path for task in ("multiclass", "regression") for path in compared[task][2][1:]]
    pages += with_long_names
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        for path in pages:
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("request", lambda request: requests.append(request.url))
            page.goto(path.as_uri())
            page.wait_for_selector(".plotly-graph-div .main-svg")
            drawn_figures = page.locator(".plotly-graph-div:has(.main-svg)").count()
            assert drawn_figures == page.locator(".plotly-graph-div").count() >= 2
            page.set_viewport_size({"width": 390, "height": 800})
            assert not page.evaluate("document.documentElement.scrollWidth > innerWidth + 1"), path
            page.close()
        browser.close()
    assert problems == []
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
