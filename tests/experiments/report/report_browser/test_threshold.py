from __future__ import annotations

import math

import numpy as np
import pytest

from engine.statistics import threshold_table
from tests.experiments.report.made_outputs import NAMES
from tests.experiments.report.made_report import make_content
from tests.experiments.report.opened_page import counts, figure_at, mark, opened, show_everything


def test_the_slider_moves_matrix_figures_and_marks(browser, path, content):
    outputs = content.test
    scores, positive = outputs.probabilities[:, 1].numpy(), outputs.target.numpy() == 1
    with opened(browser, path) as page:
        show_everything(page)
        slider, seen = page.locator("#threshold-slider"), set()
        for threshold in (0.0, 0.137, 0.5, 0.861, 1.0):
            slider.fill(str(threshold))
            page.wait_for_timeout(120)
            found = threshold_table(scores, positive, np.array([threshold]))
            expected = {name: float(values[0]) for name, values in found.items()}
            assert counts(page) == [expected[name] for name in ("tp", "fn", "fp", "tn")]
            for shown, name in (
                ("sensitivity", "sensitivity"),
                ("specificity", "specificity"),
                ("ppv", "precision"),
                ("npv", "npv"),
                ("f1", "f1"),
                ("accuracy", "accuracy"),
                ("balanced", "balanced_accuracy"),
                ("mcc", "mcc"),
            ):
                value = figure_at(page, shown)
                assert value == pytest.approx(expected[name], abs=6e-4, nan_ok=True), shown
            page.wait_for_timeout(250)  # figures out of view follow when the slider rests
            assert mark(page, "plot-roc") == pytest.approx(
                (1 - expected["specificity"], expected["sensitivity"])
            )
            if not math.isnan(expected["precision"]):
                assert mark(page, "plot-pr") == pytest.approx(
                    (expected["sensitivity"], expected["precision"])
                )
            assert mark(page, "plot-scores") == mark(page, "plot-sweep") == (threshold,)
            seen.add(tuple(counts(page)))
        assert len(seen) == 5


def test_it_starts_at_the_configured_rule(browser, path, content):
    points = content.findings.decisions["case"]
    with opened(browser, path) as page:
        first = points[0]
        assert counts(page) == [first.test[name] for name in ("tp", "fn", "fp", "tn")]
        for number, point in enumerate(points):
            page.locator("#rules button").nth(number).click()
            page.wait_for_timeout(60)
            assert counts(page) == [point.test[name] for name in ("tp", "fn", "fp", "tn")]
            assert page.locator("#rules button").nth(number).get_attribute("aria-pressed") == "true"
        table = page.locator("#points-body tr").all_inner_texts()
        assert len(table) == len(points)
        assert f"{points[0].val['sensitivity']:.3f}" in table[0]


def test_the_threshold_is_moved_by_keys_and_read_out(browser, path):
    with opened(browser, path) as page:
        slider = page.locator("#threshold-slider")
        slider.focus()
        before = float(slider.input_value())
        for _ in range(5):
            page.keyboard.press("ArrowRight")
        page.wait_for_timeout(60)
        assert float(slider.input_value()) == pytest.approx(before + 0.005)
        said = page.locator("#threshold-said").inner_text()
        assert said.startswith(f"At {before + 0.005:.3f}: sensitivity ")
        assert slider.get_attribute("aria-valuetext") == f"{before + 0.005:.3f}"


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_what_is_ranked_can_be_chosen(task, browser, write):
    made = make_content(task, size=80)
    outputs, name = made.test, NAMES[task][2]
    scores = outputs.probabilities[:, 2].numpy()
    target = outputs.target.numpy()
    positive = target[:, 2] > 0 if task == "multilabel" else target == 2
    with opened(browser, write(made)) as page:
        page.locator("#ranked").select_option(name)
        page.locator("#threshold-slider").fill("0.4")
        page.wait_for_timeout(120)
        found = threshold_table(scores, positive, np.array([0.4]))
        assert counts(page) == [int(found[name][0]) for name in ("tp", "fn", "fp", "tn")]
        if task == "multiclass":
            cells = page.locator("#all-classes tbody td b").all_inner_texts()
            said = outputs.predictions.numpy()
            expected = [
                int(((target == t) & (said == s)).sum()) for t in range(4) for s in range(4)
            ]
            assert [int(cell) for cell in cells] == expected
