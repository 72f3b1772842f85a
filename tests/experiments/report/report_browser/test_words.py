from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote

import numpy as np
import pytest

from datasets.messages import Message, sentences
from experiments.report.figures import Part, importance_sections, plane_sections
from experiments.report.words import Words
from tests.experiments.report.made_examined import make_examined
from tests.experiments.report.made_outputs import NAMES
from tests.experiments.report.made_report import NASTY, make_content
from tests.experiments.report.opened_page import (
    is_wider_than_the_screen,
    opened,
    show_everything,
    untranslated,
)


def test_a_button_changes_the_language_but_no_names(browser, write):
    # A class is called as a word of the page is.
    path = write(make_content("binary", names=["training", "case"]))
    y_title = "document.getElementById('plot-roc').layout.yaxis.title.text"
    with opened(browser, path) as page:
        show_everything(page)
        before = page.locator("main").inner_text()
        page.locator("#language").click()
        assert page.evaluate("document.documentElement.lang") == "zh-CN"
        assert page.title() == "a run - Scanfire 报告"
        assert page.locator("#confusion h3").inner_text() == "混淆矩阵"
        assert page.evaluate(y_title) == "灵敏度"
        assert (
            page.locator("#errors-filter").get_attribute("placeholder") == "按样本、分组或类别筛选"
        )
        assert page.locator("#plot-roc").get_attribute("aria-label") == "ROC 曲线"
        assert "真实 training" in page.locator("#matrix").inner_text()
        assert "训练集" in page.locator("#overview").inner_text()
        page.locator("#language").click()
        assert page.evaluate(y_title) == "sensitivity"
        assert page.locator("main").inner_text() == before


@pytest.mark.parametrize("task", sorted(NAMES))
def test_a_chinese_page_holds_no_english_phrase(task, browser, write):
    examined = make_examined(task)
    vectors = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
    parts = [
        Part("importance", "Global importance", importance_sections(examined)),
        Part(
            "embedding",
            "Embeddings",
            plane_sections(vectors, examined.outputs, examined.classes, "embedding"),
        ),
        Part("attention", "Gates and attention", absent="Attention was not measured."),
    ]
    covariates = ["age", "CRP", "sex=m", "<b>CRP</b>"]
    made = make_content(task, parts=parts, names=NAMES[task])
    made = replace(made, language="zh", samples=replace(made.samples, covariates=covariates))
    names = [*NAMES[task], *covariates, *made.test.sample_id, "a run", "tft", "val/auroc", "small"]
    names += ["group of ", "years", "mg/L", "male", NASTY[3]]
    with opened(browser, write(made)) as page:
        show_everything(page)
        assert untranslated(page, names) == []


def test_the_page_says_messages_as_python_does(browser, write):
    label, names = Message("the label"), ["training", "肝细胞癌"]
    away = "{} predicts {}, and spectra may give {} away: {} is {}"
    shares = [Message("{} of {}", *one) for one in (("90%", "low, or so"), ("0%", "<b>none</b>"))]
    dose = Message("{} above {}", "dose", "2.5")
    moved = "{} {} on validation, {} on test"
    given = [
        Message(
            "missingness of {} predicts {}: missing in {} of {} and {} of {}",
            *("none", label, "3%", "case", "nan%", Message("the rest")),
        ),
        Message("{} (it was accepted)", Message(away, "plate", "dose", "plate", dose, shares)),
        Message(
            "{} scans are identical to one {} (such as sample {} and sample {})",
            *(2, Message("in another group: a split can separate them"), "a", "b and c"),
        ),
        Message(
            "the threshold for {} does not transfer: {}",
            names[1],
            [Message(moved, Message("sensitivity"), "0.90", "0.50")],
        ),
        Message("undefined in the test set: {}", [Message("auroc"), "training"]),
        Message("Correlation of the two heads' values: {}.", ["age 0.95"]),
        Message("the prediction of {}", names[1]),
        Message("{} {} to {}", "Raman shift", "400.1", "1,200"),
        "plate predicts the weather: dry",
        sentences(Message("Mean over {} samples.", 5), "Nobody has said this."),
    ]
    made = make_content("binary", names=names, warnings=given, limits=given[:1])
    chinese = Words("zh", names=names)
    expected = [chinese.translate(text).strip() for text in given]
    assert [text for text in expected if text in given] == ["plate predicts the weather: dry"]
    with opened(browser, write(made)) as page:
        page.locator("#language").click()
        assert page.locator(".warnings li").all_inner_texts() == expected
    with opened(browser, write(replace(made, language="zh"))) as page:
        assert page.locator(".warnings li").all_inner_texts() == expected


def test_a_run_can_start_in_chinese(browser, write):
    path = write(make_content("binary", language="zh"))
    assert '<html lang="zh-CN">' in path.read_text("utf-8")
    with opened(browser, path) as page:
        assert page.locator("#language").inner_text() == "English"
        assert page.locator("#threshold h2").inner_text() == "阈值探索"


def test_names_are_shown_as_the_text_they_are(browser, write):
    made = make_content("multiclass", names=NASTY, title=NASTY[0])
    ids = [f"{NASTY[n % 4]}{n}" for n in range(len(made.test.sample_id))]
    rename = dict(zip(made.test.sample_id, ids, strict=True))
    source, findings = made.samples, made.findings
    made = replace(
        made,
        test=replace(made.test, sample_id=ids),
        groups=dict.fromkeys(ids, NASTY[3]),
        samples=replace(
            source,
            scan_rows={rename[name]: found for name, found in source.scan_rows.items()},
            values={rename[name]: found for name, found in source.values.items()},
            axis_name="<i>m/z</i>",
        ),
        findings=replace(
            findings, explained=[replace(one, sample_id=ids) for one in findings.explained]
        ),
    )
    with opened(browser, write(made), address=f"#sample={quote(ids[1])}") as page:
        page.wait_for_selector("#plot-sample .main-svg")
        show_everything(page)
        assert page.locator("h1").inner_text() == NASTY[0]
        assert page.locator("#sample-name").inner_text() == ids[1]
        assert page.locator("#plot-sample .xtitle").text_content() == "<i>m/z</i>"
        legend = page.locator("#plot-roc .legendtext").all_text_contents()
        assert legend[2] == NASTY[2]
        # Whatever is too long for a legend stands in full elsewhere.
        assert [len(legend[number]) for number in (0, 1, 3)] == [32, 32, 32]
        assert legend[1] == '"quoted" & \'sing…</b> &amp; %{x}'
        assert NASTY[3] in page.locator("#all-classes").inner_text()
        assert NASTY[3] in page.locator("#errors-body").inner_text()
        assert NASTY[0] in page.locator("#sample-covariates").inner_text()
        assert page.locator("main img, main b b, main i i").count() == 0
        page.set_viewport_size({"width": 390, "height": 800})
        page.wait_for_timeout(300)
        assert not is_wider_than_the_screen(page)
