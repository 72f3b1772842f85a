"""A run's audit: what is accepted, what stops it, and its table."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from datasets.audit import LEVELS, Finding, accept, audit, check_transforms, counted, sort_by_level
from datasets.errors import UsageError
from datasets.files import write_whole
from datasets.messages import Message
from experiments.run_files import RunFile

if TYPE_CHECKING:
    from datasets.cohort import Cohort
    from datasets.transforms import OutOfDomain
    from experiments.config import Config

# Before a training about so many scans are looked at: seconds, where all might take minutes.
AUTOMATIC_SCANS = 20_000
# One finding of each level, and the widths of the table's columns.
NOUNS = {"refuse": "refusal", "warn": "warning", "note": "note"}
LEVEL_WIDTH, NUMBER_WIDTH = 8, 22
NARROWEST, WITHOUT_TERMINAL = 60, 110


def audit_cohort(
    config: Config,
    cohort: Cohort,
    split: np.ndarray | None,
    max_scans: int | None = None,
    out_of_domain: Sequence[OutOfDomain] = (),
) -> list[Finding]:
    """Audit a cohort and its ``split``, str [N]; what the configuration accepts is marked."""
    found = audit(cohort, split, max_scans)
    found = sort_by_level([*found, *check_transforms(out_of_domain)])
    return accept(found, config.audit.accept)


def check_audit(findings: Sequence[Finding]) -> None:
    """Let nothing that the audit refuses be trained on."""
    stopping = [found for found in findings if found.stops]
    if stopping:
        first = stopping[0]
        more = ", ".join(found.name for found in stopping[1:])
        raise UsageError(
            f"the audit refuses this cohort: {first.sentence}; to train on it all the same: "
            f"--accept {first.name}{f' (it also refuses {more})' if more else ''}"
        )


def write_audit(findings: Sequence[Finding], folder: Path) -> None:
    """Write ``audit.json``."""
    content = {"findings": [found.plain() for found in findings]}
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    write_whole(text.encode(), folder, RunFile.AUDIT)


def read_audit(folder: Path) -> list[Finding]:
    """Read back :func:`write_audit`; a run that was not audited has no findings."""
    path = folder / RunFile.AUDIT
    findings = json.loads(path.read_text("utf-8"))["findings"] if path.is_file() else []
    return [Finding.from_plain(values) for values in findings]


def audit_summary(findings: Sequence[Finding]) -> str:
    """Number of findings of each level."""
    levels = [found.level for found in findings]
    told = [counted(levels.count(lv), NOUNS[lv]) for lv in LEVELS if lv in levels]
    return ", ".join(told) or "nothing found"


def audit_table(findings: Sequence[Finding]) -> Iterator[str]:
    """Findings as lines for a terminal: level, number, and the sentence under its name."""
    if not findings:
        return
    width = shutil.get_terminal_size((WITHOUT_TERMINAL, 0)).columns
    indent = " " * (LEVEL_WIDTH + NUMBER_WIDTH)
    yield f"{'level':<{LEVEL_WIDTH}}{'AUROC or number':<{NUMBER_WIDTH}}finding"
    for found in findings:
        start = f"{found.level:<{LEVEL_WIDTH}}{finding_number(found):<{NUMBER_WIDTH}}"
        yield f"{start}{found.name}{' (accepted)' if found.accepted else ''}"
        yield from textwrap.wrap(
            found.sentence,
            max(width, NARROWEST),
            initial_indent=indent,
            subsequent_indent=indent,
            break_on_hyphens=False,
        )


def finding_number(found: Finding) -> str:
    """A finding's number: a count, a share, or an AUROC with bounds, "0.90 (0.80 to 0.97)"."""
    if found.interval is None:
        return f"{found.number:.3g}" if found.number % 1 else f"{found.number:.0f}"
    low, high = found.interval
    return Message("{} ({} to {})", *(f"{n:.2f}" for n in (found.number, low, high)))
