"""Which samples and scans an import has met, and what is known of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from datasets.errors import CohortError


@dataclass(frozen=True)
class ScanRecord:
    """What is kept of a scan beside its spectrum; plain types, so that it can be written down.

    Attributes:
        sample_id: Whose scan it is.
        scan: Its name among the sample's.
        source: Name of the file that it came from.
        columns: What the file says of the sample.
        details: What the file says of the scan.
        tic: Total ion current: the sum of its intensities on the axis.
        low: Where its points begin, None where it has none.
        high: Where they end.
        empty_bins: Points of the axis that hold none of its.
        zero: Whether it is nothing but 0 on the axis.
        left_out: Why it is left out, None where it is kept.
    """

    sample_id: str
    scan: str
    source: str
    columns: Mapping[str, str]
    details: Mapping[str, str]
    tic: float
    low: float | None
    high: float | None
    empty_bins: int
    zero: bool
    left_out: str | None


class SampleIndex:
    """Samples in the order in which they were met; grows with their number, not with the spectra.

    Args:
        decisive: Columns in which all scans of a sample must agree, such as label and group. Of
            any other column of which they say different things the sample has no value.

    Example:
        >>> index = SampleIndex(["label"])
        >>> for scan, day in [("0", "Monday"), ("1", "Friday")]:
        ...     index.add("S1", scan, "a.txt", {"label": "case", "day": day})
        >>> index.samples
        {'S1': {'label': 'case', 'day': ''}}
    """

    def __init__(self, decisive: Collection[str] = ()) -> None:
        self.samples: dict[str, dict[str, str]] = {}
        self.decisive = frozenset(decisive)
        self._sources: dict[tuple[str, str], str] = {}

    def add(self, sample_id: str, scan: str, source: str, columns: Mapping[str, str]) -> None:
        """Take up a scan.

        Args:
            sample_id: Whose scan it is.
            scan: Its name among the sample's.
            source: Name of its file.
            columns: What the file says of the sample.

        Raises:
            CohortError: The sample has a scan of this name, or says otherwise in a decisive column.
        """
        earlier = self._sources.get((sample_id, scan))
        if earlier is not None:
            where = f"{source}, twice" if earlier == source else f"{earlier} and {source}"
            raise CohortError(
                f"duplicate: sample {sample_id!r}, scan {scan!r}, stands in {where}; a column "
                "'scan' tells the rows of a sample apart, --sample-from its files"
            )
        self._sources[sample_id, scan] = source
        known = self.samples.setdefault(sample_id, dict(columns))
        for name, value in columns.items():
            if known.setdefault(name, value) == value:
                continue
            if name in self.decisive:
                raise CohortError(
                    f"sample {sample_id!r} has two values of {name!r}: {known[name]!r} and, in "
                    f"{source}, {value!r}"
                )
            known[name] = ""

    def columns(self) -> list[str]:
        """All columns, in the order in which they were met."""
        return list(dict.fromkeys(name for known in self.samples.values() for name in known))
