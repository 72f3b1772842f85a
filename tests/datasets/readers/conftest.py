"""What every reader's tests do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from datasets.errors import CohortError
from datasets.readers import RawReader, RawScan
from tests.datasets.readers.raw_files import source_file


@pytest.fixture
def read() -> Callable[[RawReader, Path], list[RawScan]]:
    """Read all scans of a file: `read(reader, path)`."""
    return lambda reader, path: list(reader.read(source_file(path)))


@pytest.fixture
def refusal() -> Callable[[RawReader, Path], str]:
    """Read a file that is to be refused; return the one error line."""

    def refused(reader: RawReader, path: Path) -> str:
        with pytest.raises(CohortError) as caught:
            list(reader.read(source_file(path)))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return refused
