"""Whether the transforms are made for the intensities that they are given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from datasets.audit.findings import Finding
from datasets.transforms import OutOfDomain


def check_transforms(found: Iterable[OutOfDomain]) -> Iterator[Finding]:
    """Make findings of what transforms are given and are not made for.

    Args:
        found: Of the fitted transforms, over the training scans.
    """
    for one in found:
        yield Finding(f"transforms:{one.name}", one.level, one.share, one.sentence)
