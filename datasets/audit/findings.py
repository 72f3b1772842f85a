"""Findings of an audit: name, level, number, sentence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from datasets.messages import Message, from_plain, to_plain

if TYPE_CHECKING:
    from datasets.transforms import OutOfDomain


Level = Literal["refuse", "warn", "note"]

# Refuse stops a training, warn is needed to read its figures, note helps to understand them.
LEVELS: tuple[Level, ...] = ("refuse", "warn", "note")


@dataclass(frozen=True)
class Finding:
    """Something about a cohort or its split that bears on what a model's figures mean.

    ``name`` (``missingness:ALB``) is stable: it can be accepted. ``number`` is an AUROC, a share or
    a count; ``interval`` bounds an AUROC, simultaneously over all of an audit's AUROCs.
    """

    name: str
    level: Level
    number: float
    sentence: str
    interval: tuple[float, float] | None = None
    accepted: bool = False

    @property
    def stops(self) -> bool:
        """Whether it refuses the training."""
        return self.level == "refuse" and not self.accepted

    def plain(self) -> dict[str, Any]:
        """Plain types, for a JSON file."""
        bounds = list(self.interval) if self.interval else None
        own = {"number": float(self.number), "interval": bounds}
        return asdict(self) | own | {"message": to_plain(self.sentence)}

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Finding:
        """The inverse of :meth:`plain`."""
        bounds = values["interval"]
        own = {key: value for key, value in values.items() if key != "message"}
        own["interval"] = (bounds[0], bounds[1]) if bounds else None
        # Audits of earlier versions hold the sentence alone.
        return cls(**own | {"sentence": from_plain(values.get("message", values["sentence"]))})


def counted(number: int, thing: str) -> Message:
    """A number of things: ``1 scan``, ``3 scans``."""
    return Message(f"{{}} {thing}{'' if number == 1 else 's'}", number)


def sort_by_level(findings: Iterable[Finding]) -> list[Finding]:
    """The gravest first, otherwise in their order."""
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))


def accept(findings: Iterable[Finding], names: Sequence[str]) -> list[Finding]:
    """Mark the findings of these names as accepted."""
    return [replace(found, accepted=found.name in names) for found in findings]


def check_transforms(found: Iterable[OutOfDomain]) -> Iterator[Finding]:
    """Findings of fitted transforms that are given intensities or scans they are not made for."""
    for one in found:
        yield Finding(f"transforms:{one.name}", one.level, one.share, one.sentence)
