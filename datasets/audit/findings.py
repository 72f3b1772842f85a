"""Findings of an audit: name, level, number, sentence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from datasets.transforms import OutOfDomain

Level = Literal["refuse", "warn", "note"]

# The gravest first: what stops a training, what a reader of its figures has to know, what helps to
# understand them.
LEVELS: tuple[Level, ...] = ("refuse", "warn", "note")


@dataclass(frozen=True)
class Finding:
    """Something about a cohort or its split that bears on what a model's figures mean.

    Attributes:
        name: Stable from run to run, such as ``missingness:ALB``; it is what can be accepted.
        level: One of ``LEVELS``.
        number: How much of it there is: an AUROC, or a count; the sentence says which.
        sentence: For a person, in one line.
        interval: Bounds of an AUROC, which hold for all of an audit's AUROCs together.
        accepted: Whether the user knows of it and goes on all the same.
    """

    name: str
    level: Level
    number: float
    sentence: str
    interval: tuple[float, float] | None = None
    accepted: bool = False

    @property
    def stops(self) -> bool:
        """Whether no training may begin."""
        return self.level == "refuse" and not self.accepted

    def plain(self) -> dict[str, Any]:
        """In plain types, for a JSON file."""
        bounds = list(self.interval) if self.interval else None
        return asdict(self) | {"number": float(self.number), "interval": bounds}

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Finding:
        """Back from :meth:`plain`.

        Example:
            >>> found = Finding("missingness:ALB", "warn", 0.8, "It tells.", (0.7, 0.9))
            >>> Finding.from_plain(found.plain()) == found
            True
        """
        bounds = values["interval"]
        return cls(**{**values, "interval": (bounds[0], bounds[1]) if bounds else None})


def counted(number: int, thing: str) -> str:
    """A number of things, in words for a sentence.

    Example:
        >>> counted(1, "scan"), counted(3, "scan")
        ('1 scan', '3 scans')
    """
    return f"{number} {thing}{'' if number == 1 else 's'}"


def sort_by_level(findings: Iterable[Finding]) -> list[Finding]:
    """The gravest first, otherwise as they come.

    Example:
        >>> found = [Finding("a", "note", 1, "A."), Finding("b", "refuse", 1, "B.")]
        >>> [finding.name for finding in sort_by_level(found)]
        ['b', 'a']
    """
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))


def accept(findings: Iterable[Finding], names: Sequence[str]) -> list[Finding]:
    """Mark those that the user accepts.

    Args:
        findings: Of one audit.
        names: Of findings; one that names none of them changes nothing.
    """
    return [replace(found, accepted=found.name in names) for found in findings]


def check_transforms(found: Iterable[OutOfDomain]) -> Iterator[Finding]:
    """Make findings of what transforms are given and are not made for.

    Args:
        found: Of the fitted transforms, over the training scans.
    """
    for one in found:
        yield Finding(f"transforms:{one.name}", one.level, one.share, one.sentence)
