from __future__ import annotations

import html
import re
from dataclasses import replace

import pandas as pd
import pytest

from datasets.audit import Finding
from datasets.messages import Message
from experiments.folds.fold_leaderboard import Permutations, make_leaderboard
from experiments.folds.fold_page import write_fold_page
from experiments.folds.out_of_fold import FUSED_BASELINES
from tests.experiments.folds.made_folds import make_folds
from tests.experiments.report.opened_page import CHROMIUM, launched, opened, untranslated

# Written so in Chinese, too: titles of papers, authors, abbreviations, names.
LATIN = (
    *("Bengio", "Grandvalet", "Nadeau", "Forman", "Scholz", "DeLong", "Holm", "AUROC", "AUPRC"),
    *("No Unbiased Estimator of the Variance of K-Fold Cross-Validation", "and", "ROC"),
    *("Apples-to-Apples in Cross-Validation Studies", "12ab", "order", "made", "tft"),
)


def make_board(task="binary", metric="auroc", language="en"):
    models = {"spectra_svm": (2, 1.2), "covariates_extra_trees": (3, 0.2), FUSED_BASELINES: (4, 1)}
    found = make_folds(task, 2, {"tft": (1, 0.6), **models}, metric=metric, seeds=2)
    base = found.plan.base
    report = base.report.model_copy(update={"language": language})
    plan = replace(found.plan, base=base.model_copy(update={"report": report}))
    learning = {"share": [1.0], "samples": 20, "model": "tft", metric: 0.7}
    return replace(
        make_leaderboard(replace(found, plan=plan), [metric]),
        audit=[Finding("order", "warn", 0.9, Message("{} of {}", 2, 3), accepted=True)],
        permutations=[Permutations("tft", 0.9, [0.4, 0.5])],
        learning=pd.DataFrame(learning),
        about=[Message("Cohort fingerprint, before the split, {}", "12ab")],
    )


@pytest.mark.parametrize(
    ("task", "metric"), [("binary", "auroc"), ("multilabel", "log_loss"), ("regression", "r2")]
)
def test_the_whole_page_is_said_in_chinese(tmp_path, task, metric):
    board = make_board(task, metric, "zh")
    page = write_fold_page(board, tmp_path).read_text("utf-8")
    assert '<html lang="zh-CN">' in page
    hidden = r"<(script|style|button)\b.*?</\1>"
    body = re.sub(hidden, " ", page[page.index("<body>") :], flags=re.DOTALL)
    seen = html.unescape(re.sub(r"<[^>]*>", " ", body))
    assert "每折不用其测试样本重新选择时" in seen
    for name in sorted((*LATIN, *board.found.names), key=len, reverse=True):
        seen = seen.replace(name, " ")
    assert re.findall("[A-Za-z]{2,}", seen) == []


def test_english_texts_stand_in_both_languages(tmp_path):
    page = write_fold_page(make_board(), tmp_path).read_text("utf-8")
    assert '<html lang="en">' in page
    assert '<span data-en="Leaderboard" data-zh="排行榜">Leaderboard</span>' in page
    assert ">linear SVM on spectra</span>" in page


def test_the_users_names_are_not_translated(tmp_path):
    board = make_board(language="zh")
    plan = board.found.plan
    fold = replace(plan.folds[0], name="training")  # a site may be called so
    renamed = replace(plan, kind="model", folds=[fold, *plan.folds[1:]])
    board = replace(board, found=replace(board.found, plan=renamed))
    page = write_fold_page(board, tmp_path).read_text("utf-8")
    assert '<th scope="row">training</th>' in page
    assert "依次留出每个 model" in page


def test_what_was_not_audited_is_said_so(tmp_path):
    board = make_board()
    plan = board.found.plan
    base = plan.base.model_copy(update={"audit": {"enabled": False}})
    found = replace(board.found, plan=replace(plan, base=base))
    page = write_fold_page(replace(board, audit=[], found=found), tmp_path).read_text("utf-8")
    assert "The data were not audited." in page
    assert "1 warning." in write_fold_page(board, tmp_path).read_text("utf-8")


def box_of(figure):
    """Where a figure is on the page, and its size."""
    return figure.bounding_box()


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome on this machine")
def test_a_reader_chooses_the_language(tmp_path):
    board = make_board()
    path = write_fold_page(board, tmp_path)
    with launched() as browser, opened(browser, path) as page:
        heading = page.locator("#leaderboard h2")
        ticks = page.locator("#figure-leaderboard .yaxislayer-above text")
        assert heading.inner_text() == "Leaderboard"
        heights = [box_of(figure)["height"] for figure in page.locator(".plotly-graph-div").all()]
        assert len(heights) > 4
        assert min(heights) > 100
        assert "linear SVM on spectra" in ticks.all_text_contents()
        page.click("#language")
        assert heading.inner_text() == "排行榜"
        drawn = page.locator(".plotly-graph-div").all()
        assert [box_of(figure)["height"] for figure in drawn] == heights
        assert "交叉验证" in page.title()
        assert page.evaluate("document.documentElement.lang") == "zh-CN"
        assert untranslated(page, [*LATIN, *board.found.names]) == []
        page.reload()
        page.wait_for_selector("html[data-ready]", state="attached")
        assert heading.inner_text() == "排行榜"
        page.click("#language")
        assert heading.inner_text() == "Leaderboard"
        assert "linear SVM on spectra" in ticks.all_text_contents()
