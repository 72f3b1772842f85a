from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from experiments.report.figures import Part
from tests.experiments.report.made_report import COVARIATES, make_content, make_section
from tests.experiments.report.opened_page import MINUS, counts, opened, rows, wait_for_sample


def test_the_worst_sample_is_first_and_columns_can_be_sorted(browser, path, content):
    outputs = content.test
    true = outputs.probabilities.numpy()[np.arange(120), outputs.target.numpy()]
    with opened(browser, path) as page:
        assert rows(page)[0][0] == outputs.sample_id[int(true.argmin())]
        shown = [float(row[4]) for row in rows(page)]
        assert shown == sorted(shown)
        assert len(shown) == 50
        head = page.locator("#errors-head th[data-key='scans']")
        head.locator("button").press("Enter")
        assert head.get_attribute("aria-sort") == "ascending"
        assert [row[6] for row in rows(page)] == sorted(row[6] for row in rows(page))
        head.locator("button").press("Enter")
        assert head.get_attribute("aria-sort") == "descending"
        assert page.locator("#errors-head th[aria-sort]").count() == 1
        page.locator("#errors-after").click()
        assert page.locator("#errors-count").inner_text() == "51 to 100 of 120 samples"


def test_errors_at_the_current_threshold_can_be_filtered(browser, path):
    with opened(browser, path) as page:
        page.locator("#errors-only").check()
        for threshold in ("0.3", "0.8"):
            page.locator("#threshold-slider").fill(threshold)
            page.wait_for_timeout(400)
            _, missed, alarms, _ = counts(page)
            assert (
                page.locator("#errors-count").inner_text().endswith(f"of {missed + alarms} samples")
            )
            assert all(row[2] != row[3] and row[5].startswith(MINUS) for row in rows(page))
        page.locator("#errors-filter").fill("nobody is called so")
        assert page.locator("#errors-count").inner_text() == "No matching sample."


def test_a_row_opens_its_sample_by_click_and_by_key(browser, path, content):
    with opened(browser, path) as page:
        name = rows(page)[3][0]
        page.locator("#errors-body tr").nth(3).locator("td").nth(2).click()
        wait_for_sample(page, name)
        page.wait_for_selector("#plot-sample .main-svg")
        assert page.evaluate("location.hash") == f"#sample={name}"
        assert page.locator("#explorer-heading").evaluate("e => e === document.activeElement")
        facts = page.locator("#sample-facts").inner_text()
        assert f"group of {name}" in facts
        # The other samples follow in the table's order.
        page.keyboard.press("ArrowRight")
        assert page.locator("#sample-name").inner_text() == rows(page)[4][0]
        assert page.locator("#sample-position").inner_text() == "5 of 120 in the table's order"
        link = page.locator("#errors-body tr").nth(1).locator("a")
        link.focus()
        page.keyboard.press("Enter")
        expected = rows(page)[1][0]
        wait_for_sample(page, expected)


def test_the_address_opens_a_sample(browser, path):
    with opened(browser, path, address="#sample=s17") as page:
        assert page.locator("#sample-name").inner_text() == "s17"
    with opened(browser, path, address="#sample=nobody%E0") as page:
        assert page.locator("h1").inner_text() == "a run"


def test_the_explorer_shows_all_parts_of_a_sample(browser, path, content):
    number = 15  # has four scans
    name, source = f"s{number}", content.samples
    raw = source.spectra[source.scan_rows[name]]
    explained = content.findings.explained[0]
    with opened(browser, path, address=f"#sample={name}") as page:
        page.wait_for_selector("#plot-sample .main-svg")
        traces = page.evaluate(
            "document.getElementById('plot-sample').data.map(t => [t.name, Array.from(t.y)])"
        )
        assert [trace[0] for trace in traces] == [
            *(f"scan {n}" for n in range(1, 5)),
            "raises the score of case",
            "lowers the score of case",
        ]
        for (_, y), scan in zip(traces, raw, strict=False):
            np.testing.assert_allclose(y, scan, atol=scan.max() * 0.005)
        together = explained.scans[number].sum(dim=0).numpy()
        shown = np.array(traces[4][1]) + np.array(traces[5][1])
        np.testing.assert_allclose(shown, together, atol=0.1)
        page.locator("#sample-part").select_option("1")
        of_scan = page.evaluate(
            "document.getElementById('plot-sample').data.slice(-2).map(t => Array.from(t.y))"
        )
        np.testing.assert_allclose(
            np.sum(of_scan, axis=0), explained.scans[number][1].numpy(), atol=0.05
        )
        assert page.locator("#sample-scans tbody tr").count() == 4
        assert "0.250" in page.locator("#sample-scans").inner_text()
        table = rows(page, "#sample-covariates tbody")
        # What two features of one covariate contribute is that covariate's.
        given = explained.tabular[number]
        of = dict(zip(COVARIATES, [given[0] + given[1], *given[2:]], strict=True))
        by_size = sorted(of, key=lambda covariate: -abs(of[covariate]))
        assert [row[0] for row in table] == by_size
        age = table[by_size.index("age")]
        assert age[1] == "35 years"
        assert float(age[2].replace(MINUS, "-")) == pytest.approx(float(of["age"]), rel=5e-3)


def test_a_scan_is_hidden_by_its_box_and_by_the_legend(browser, path):
    visible = "id => document.getElementById(id).data.map(trace => trace.visible)"
    with opened(browser, path, address="#sample=s15") as page:
        page.wait_for_selector("#plot-sample .legendtoggle")
        page.locator("#sample-scans input").nth(1).uncheck()
        assert page.evaluate(visible, "plot-sample")[1] == "legendonly"
        page.locator("#plot-roc").scroll_into_view_if_needed()
        page.locator("#plot-roc .legendtoggle").first.click()
        page.wait_for_timeout(600)  # a click waits whether a second one follows
        assert page.evaluate(visible, "plot-roc")[0] == "legendonly"
        # What the reader chose outlives a redrawing.
        page.locator("#theme").click()
        assert page.evaluate(visible, "plot-sample")[1] == "legendonly"
        assert page.evaluate(visible, "plot-roc")[0] == "legendonly"


def test_the_explained_label_is_chosen_for_all_figures_at_once(browser, write):
    made = make_content("multilabel", size=20)
    sections = [
        replace(make_section(f"points-{n}"), choice=name) for n, name in enumerate(made.class_names)
    ]
    made = replace(made, parts=[Part("importance", "Global importance", sections)])
    with opened(browser, write(made), address="#sample=s5") as page:
        page.wait_for_selector("#plot-sample .main-svg")
        seen = "[...document.querySelectorAll('#importance .piece:not([hidden])')].map(e => e.id)"
        assert page.evaluate(seen) == ["importance-points-0"]
        first = page.locator("#sample-sum").inner_text()
        page.locator("#importance .explained-output").select_option("2")
        assert page.evaluate(seen) == ["importance-points-2"]
        assert page.locator("#sample-explained .explained-output").input_value() == "2"
        assert "lung" in page.locator("#sample-sum").inner_text() != first
        drawn = "document.getElementById('plot-sample').data.slice(-2).map(t => t.name)"
        assert page.evaluate(drawn) == ["raises the score of lung", "lowers the score of lung"]
        page.locator("#importance-points-2").scroll_into_view_if_needed()
        page.wait_for_selector("#figure-points-2 .main-svg")
        page.locator("#sample-explained .explained-output").select_option("0")
        assert page.evaluate(seen) == ["importance-points-0"]
        assert page.locator("#sample-sum").inner_text() == first
