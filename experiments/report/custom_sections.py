"""Sections of the page by functions of the user's own, which a configuration names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from datasets.errors import UsageError
from experiments.config import ComponentConfig, arguments_for, find_named
from experiments.report.figures import ReportInput, Section
from experiments.report.report_content import Part

# A function is given those of the fields of ReportInput that it names.
OFFERED = tuple(field.name for field in fields(ReportInput))


def check_sections(entries: Sequence[ComponentConfig]) -> None:
    """Import the functions of ``report.sections``, before anything is trained.

    Raises:
        UsageError: One cannot be imported, or cannot be called with what it would be given.
    """
    for number, entry in enumerate(entries):
        _find(entry, f"report.sections.{number}", dict.fromkeys(OFFERED))


def custom_parts(entries: Sequence[ComponentConfig], examined: ReportInput) -> Iterator[Part]:
    """One part of the page for each entry of ``report.sections``.

    Args:
        entries: Dotted paths with ``params``.
        examined: The tested samples.

    Raises:
        UsageError: A function returned something else than sections.
    """
    offered = {name: getattr(examined, name) for name in OFFERED}
    for number, entry in enumerate(entries):
        key = f"report.sections.{number}"
        draw, arguments = _find(entry, key, offered)
        drawn = draw(**arguments)
        sections = list(drawn) if isinstance(drawn, list | tuple) else [drawn]
        if not sections or not all(isinstance(section, Section) for section in sections):
            raise UsageError(
                f"{key}: {entry.name} returned {drawn!r:.60}; a Section or a list of Sections was "
                "expected"
            )
        # Their names are addresses within the page, and others' must not be taken.
        name = f"custom-{number}"
        own = [replace(section, name=f"{name}-{section.name}") for section in sections]
        yield Part(name, own[0].heading, own)


def _find(
    entry: ComponentConfig, key: str, offered: Mapping[str, Any]
) -> tuple[Callable[..., Any], dict[str, Any]]:
    draw = find_named(entry.name, {}, key)
    if not callable(draw):
        raise UsageError(f"{key}: {entry.name} is no function")
    return draw, arguments_for(draw, entry.params, key, offered)
