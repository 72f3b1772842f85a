from __future__ import annotations

import re
from dataclasses import replace

import pytest

from tests.experiments.report.made_outputs import NAMES
from tests.experiments.report.made_report import NASTY, make_content, nasty_names
from tests.experiments.report.opened_page import (
    counts,
    is_wider_than_the_screen,
    opened,
    show_everything,
)


@pytest.mark.parametrize("task", sorted(NAMES))
def test_every_section_is_drawn_on_a_wide_screen_and_on_a_phone(task, browser, write):
    page_path = write(make_content(task, names=nasty_names(task), title=NASTY[1]))
    with opened(browser, page_path) as page:
        for width in (1440, 390):
            page.set_viewport_size({"width": width, "height": 900})
            show_everything(page)
            assert not is_wider_than_the_screen(page)
        assert page.locator("section h1, section h2").count() >= 7
        titles = page.locator("[data-title]").evaluate_all("all => all.map(b => b.dataset.title)")
        assert titles
        assert not [t for t in titles if re.search("cloud|share|upload|edit", t, re.I)]


def test_it_follows_the_systems_colours_until_the_reader_chooses(browser, path):
    ink = "getComputedStyle(document.body).color"
    of_figure = "document.getElementById('plot-roc').layout.font.color"
    with opened(browser, path, color_scheme="dark") as page:
        page.locator("#plot-roc").scroll_into_view_if_needed()
        page.wait_for_selector("#plot-roc .main-svg")
        dark, dark_figure = page.evaluate(ink), page.evaluate(of_figure)
        page.locator("#theme").click()
        assert page.locator("#theme").inner_text() == "Theme: light"
        assert page.evaluate(ink) != dark
        assert page.evaluate(of_figure) != dark_figure
        page.locator("#theme").click()
        assert page.evaluate(ink) == dark


def test_paper_shows_every_figure_and_no_controls(browser, path, tmp_path):
    with opened(browser, path, color_scheme="dark") as page:
        page.evaluate(
            """addEventListener("beforeprint", () => {
              const plots = Array.from(document.querySelectorAll(".plot"));
              window.onPaper = {
                drawn: plots.every(plot => plot.querySelector(".main-svg")),
                light: plots.every(plot => plot.layout.font.color === "#1a1d21"),
                widest: Math.max(...plots.map(plot => plot.querySelector(".main-svg").clientWidth)),
              };
            })"""
        )
        page.pdf(path=tmp_path / "page.pdf", format="A4")
        assert page.evaluate("window.onPaper.drawn")
        assert page.evaluate("window.onPaper.light")
        assert page.evaluate("window.onPaper.widest") <= 680
        page.emulate_media(media="print")
        for controls in (".frame", "#errors-filter", "#threshold-slider", "#sample-search"):
            assert not page.locator(controls).is_visible()
        assert page.locator("#threshold-said").is_visible()


def test_it_is_used_by_keys_alone(browser, path):
    with opened(browser, path) as page:
        page.keyboard.press("Tab")
        assert page.locator(":focus").get_attribute("class") == "skip"
        page.keyboard.press("Enter")
        assert page.locator("main").evaluate("main => main === document.activeElement")
        unreachable = page.locator(
            "main .plot:not([tabindex]), main .box:not([tabindex]), main pre:not([tabindex])"
        )
        assert unreachable.count() == 0
        unnamed = page.evaluate(
            """Array.from(document.querySelectorAll("button, select, input, .plot, main [role]"))
              .filter(e => !e.closest(".modebar-container"))
              .filter(e => !(e.getAttribute("aria-label") || e.textContent.trim()))
              .filter(e => !e.labels?.length).map(e => e.id || e.className)"""
        )
        assert [
            name for name in unnamed if name != "sample-position"
        ] == []  # no sample is open yet


def test_a_run_in_progress_shows_its_validation_set(browser, write, content):
    running = replace(content, status="running", test=None, samples=None, parts=())
    with opened(browser, write(running)) as page:
        show_everything(page)
        assert page.locator("meta[http-equiv=refresh]").get_attribute("content") == "30"
        assert "training: epoch 5 of 10" in page.locator("#overview").inner_text()
        assert "validation set" in page.locator("#overview .card").first.inner_text()
        assert page.locator("#explorer, #reliability").count() == 0
        assert page.locator("#threshold p").first.inner_text().startswith("Validation set.")
        assert sum(counts(page)) == 120
        assert page.locator("#errors-body a").count() == 0


def test_a_page_of_500_samples_stays_small_and_is_soon_ready(browser, write):
    path = write(make_content("binary", size=500, points=2048, scans=8))
    assert path.stat().st_size <= 15e6
    with opened(browser, path) as page:
        took = page.evaluate("performance.now()")
        page.locator("#threshold-slider").fill("0.25")
        page.wait_for_timeout(120)
        assert sum(counts(page)) == 500
        page.locator("#errors-body tr").first.locator("td").first.click()
        page.wait_for_selector("#plot-sample .main-svg")
        # Three seconds by themselves; other tests may be busy on the same cores.
        assert took < 20_000
