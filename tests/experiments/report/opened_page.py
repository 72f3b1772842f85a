"""A page in a real browser, as a person without a network has it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
# As root, and with no network to reach out to.
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
MINUS, NOTHING = "\N{MINUS SIGN}", "\N{EN DASH}"
LOCAL = ("file:", "data:", "blob:")
# Written so in Chinese texts, too.
LATIN = (
    "AUROC",
    "AUPRC",
    "ROC",
    "F1",
    "MCC",
    "CUDA",
    "Python",
    "Brier",
    "Spearman",
    "SHAP",
    "m/z",
    "PNG",
    "logit",
    "log(",
    "nat",
    "t-SNE",
    "Scanfire",
    "Sundararajan",
    "van der Maaten",
    "Hinton",
    "lr",
)


@contextmanager
def launched() -> Iterator[Any]:
    """A browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def opened(
    browser: Any,
    path: Path,
    width: int = 1440,
    height: int = 900,
    address: str = "",
    **options: Any,
) -> Iterator[Any]:
    """A page that is ready to be used; whatever it complains of or asks for fails the test.

    Args:
        browser: Of :func:`launched`.
        path: The page.
        width: In pixels.
        height: In pixels.
        address: Behind the path (``#sample=s1``).
        **options: Of the context, such as ``color_scheme``.
    """
    problems: list[str] = []
    requests: list[str] = []
    context = browser.new_context(
        viewport={"width": width, "height": height}, offline=True, **options
    )
    page = context.new_page()
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri() + address)
    page.wait_for_selector("html[data-ready]", state="attached", timeout=60_000)
    yield page
    assert problems == []
    assert [url for url in requests if not url.startswith(LOCAL)] == []
    assert page.evaluate("window.hacked") is None
    context.close()


def show_everything(page: Any) -> None:
    """Go through the page from top to bottom until every figure is drawn."""
    for number in range(page.locator(".plot").count()):
        plot = page.locator(".plot").nth(number)
        # What a section fetches as it comes into view may push its figure out of it.
        while plot.is_visible() and not plot.locator(".main-svg").count():
            plot.scroll_into_view_if_needed()
            page.wait_for_timeout(30)


def wait_for_sample(page: Any, name: str) -> None:
    """Wait until the explorer shows a sample."""
    page.locator("#sample-name").get_by_text(name, exact=True).wait_for()


def is_wider_than_the_screen(page: Any) -> bool:
    """Whether the reader would have to scroll sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth > innerWidth + 1"))


def counts(page: Any) -> list[int]:
    """True positives, false negatives, false positives and true negatives, as they are shown."""
    return [int(text) for text in page.locator("#matrix tbody td b").all_inner_texts()]


def figure_at(page: Any, name: str) -> float:
    """A figure of the table beside the confusion matrix; NaN where it is undefined."""
    text = page.locator(f"[data-figure='{name}']").inner_text()
    return float("nan") if text == NOTHING else float(text.replace(MINUS, "-"))


def mark(page: Any, plot: str) -> tuple[float, ...]:
    """Where the mark of the current threshold is in a figure: a point, or a line's place."""
    shape = page.evaluate("id => document.getElementById(id).layout.shapes[0]", plot)
    return (shape["xanchor"], shape["yanchor"]) if shape["type"] == "circle" else (shape["x0"],)


def untranslated(page: Any, names: list[str]) -> list[str]:
    """What is shown in Latin letters, but for names, units and what is called so in Chinese too."""
    known = sorted({*names, *LATIN}, key=len, reverse=True)
    found: list[str] = page.evaluate(
        """known => {
          const silent = "script, style, pre, datalist, option, #environment td, #language";
          const texts = [];
          const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
          for (let node = walker.nextNode(); node; node = walker.nextNode())
            if (!node.parentElement.closest(silent)) texts.push(node.textContent);
          for (const element of document.querySelectorAll("[aria-label], [placeholder]"))
            texts.push(element.getAttribute("aria-label") ?? element.placeholder);
          const without = text => known.reduce((left, name) => left.replaceAll(name, ""), text);
          return Array.from(new Set(texts.filter(text => /[A-Za-z]{2,}/.test(without(text)))));
        }""",
        known,
    )
    return found


def rows(page: Any, body: str = "#errors-body") -> list[list[str]]:
    """The rows of a table's body, by default of the table of samples."""
    found: list[list[str]] = page.evaluate(
        """body => Array.from(document.querySelectorAll(body + " tr"),
            row => Array.from(row.cells, cell => cell.textContent))""",
        body,
    )
    return found
