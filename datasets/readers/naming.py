"""Names of samples, groups and labels taken from the paths of files."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from datasets.errors import CohortError
from datasets.readers.reader import RawScan


@dataclass(frozen=True)
class Naming:
    r"""Regular expressions that are searched for in a file's path.

    A name is the pattern's matched groups, joined by "_"; without a group, the whole match.

    Attributes:
        sample: For the sample's name; None takes the reader's.
        group: For the column `group`, likewise.
        label: For the column `label`, likewise.

    Raises:
        CohortError: A pattern is no regular expression.
    """

    sample: str | None = None
    group: str | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        """Check the patterns."""
        for option, pattern in self.options().items():
            try:
                re.compile(pattern)
            except re.error as error:
                raise CohortError(
                    f"{option} {pattern!r} is no regular expression: {error}"
                ) from error

    def options(self) -> dict[str, str]:
        """The patterns that are given, by option."""
        given = {"sample": self.sample, "group": self.group, "label": self.label}
        return {f"--{name}-from": pattern for name, pattern in given.items() if pattern is not None}

    def apply(self, scan: RawScan, file_name: str, one_scan_a_file: bool) -> RawScan:
        """Rename a scan; as several files can be one sample, the scan's name includes its file.

        Raises:
            CohortError: A pattern does not match.
        """
        if not self.options():
            return scan
        columns = dict(scan.columns)
        if self.group is not None:
            columns["group"] = find_name(self.group, file_name, "--group-from")
        if self.label is not None:
            columns["label"] = find_name(self.label, file_name, "--label-from")
        if self.sample is None:
            return replace(scan, columns=columns)
        return replace(
            scan,
            sample_id=find_name(self.sample, file_name, "--sample-from"),
            scan=file_name if one_scan_a_file else f"{file_name}#{scan.scan}",
            columns=columns,
        )


def find_name(pattern: str, file_name: str, option: str) -> str:
    """The name that a pattern finds in a file's name.

    Raises:
        CohortError: It finds none, or an empty one.
    """
    match = re.search(pattern, file_name)
    if match is None:
        raise CohortError(f"{option} {pattern!r} does not match {file_name!r}")
    name = "_".join(part for part in match.groups() if part) or match[0]
    if not name:
        raise CohortError(f"{option} {pattern!r} finds an empty name in {file_name!r}")
    return name
