"""How many samples of each class a side or a batch holds."""

from __future__ import annotations

from collections.abc import Iterator

from datasets.audit.columns import MOST_CATEGORIES
from datasets.audit.context import AuditContext
from datasets.audit.findings import Finding
from datasets.audit.small_model import FAMILY_ERROR
from datasets.splits import SIDES

# With fewer of a class on a side each sample moves its sensitivity by more than a tenth.
FEW = 10
# A class whose share on a side is off by more: a threshold set there does not hold elsewhere.
MUCH = 0.2
MOST_LISTED = 6


def check_counts(subject: AuditContext) -> Iterator[Finding]:
    """Count each class on each side.

    Args:
        subject: What is audited.
    """
    if subject.split is None or subject.cohort.task == "regression":
        return
    for side in SIDES:
        here = subject.split == side
        if not here.any():
            continue
        counts = {c.name: int((c.members & here).sum()) for c in subject.contrasts}
        if subject.cohort.task != "multiclass":
            counts |= {c.other: int((~c.members & here).sum()) for c in subject.contrasts}
        few = {name: number for name, number in counts.items() if number < FEW}
        if few:
            listed = ", ".join(f"{name} {number}" for name, number in few.items())
            yield Finding(
                f"counts:{side}",
                "note",
                min(few.values()),
                f"fewer than {FEW} samples on the {side} side: {listed}",
            )
        for contrast in subject.contrasts:
            share, whole = contrast.members[here].mean(), contrast.members.mean()
            if abs(share - whole) > MUCH:
                yield Finding(
                    f"shares:{side}:{contrast.name}",
                    "note",
                    float(share),
                    f"{contrast.name} makes up {share:.0%} of the {side} side, but {whole:.0%} of "
                    "the cohort",
                )


def check_tables(subject: AuditContext) -> Iterator[Finding]:
    """Find batches without any sample of some class, where chance does not explain it.

    Args:
        subject: What is audited.
    """
    for column in subject.batches:
        values = subject.values(column)
        if values.nunique() > MOST_CATEGORIES:
            continue
        sizes = values.value_counts()
        empty = [
            f"{level} has no {name}"
            for contrast in subject.contrasts
            for name, members in (
                (contrast.name, contrast.members),
                (contrast.other, ~contrast.members),
            )
            if subject.cohort.task != "multiclass" or name == contrast.name
            for level, size in sizes.items()
            if not (members & (values == level).to_numpy()).any()
            and (1 - members.mean()) ** size
            < FAMILY_ERROR / (len(sizes) * 2 * len(subject.contrasts))
        ]
        if empty:
            yield Finding(
                f"table:{column}",
                "note",
                len(empty),
                f"{column} by class: {', '.join(empty[:MOST_LISTED])}"
                f"{' and more' if len(empty) > MOST_LISTED else ''}; there the classes cannot be "
                "compared",
            )
