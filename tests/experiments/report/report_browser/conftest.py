"""A browser, and pages for it to open."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments.report.report_content import ReportContent
from experiments.report.report_page import render_report
from tests.experiments.report.made_report import make_content
from tests.experiments.report.opened_page import CHROMIUM, launched


# Not for the session: other modules launch browsers of their own, and two cannot be alive.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """An installed Chromium or Chrome."""
    if CHROMIUM is None:
        pytest.skip("no Chromium or Chrome on this machine")
    with launched() as found:
        yield found


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Callable[[ReportContent], Path]:
    """Write a content's page."""

    def write_page(content: ReportContent) -> Path:
        path = tmp_path_factory.mktemp("pages") / "index.html"
        path.write_text(render_report(content), "utf-8")
        return path

    return write_page


@pytest.fixture(scope="module")
def content() -> ReportContent:
    """A finished run of two classes."""
    return make_content("binary", size=120)


@pytest.fixture(scope="module")
def path(write: Callable[[ReportContent], Path], content: ReportContent) -> Path:
    """Its page."""
    return write(content)
