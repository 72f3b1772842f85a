from __future__ import annotations

from pathlib import Path

import pytest

from datasets.cohort import Cohort
from datasets.errors import UsageError
from datasets.paths import LONGEST_NAME, as_path


def test_a_tilde_stands_for_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert as_path("~/cohorts") == tmp_path / "cohorts"
    assert as_path("~") == tmp_path
    assert as_path(Path("a/~")) == Path("a/~")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "not an empty text"),
        ("  ", "not an empty text"),
        ("a\0b", "null character"),
        ("a/" + "x" * (LONGEST_NAME + 1), "has 256 bytes; at most 255 fit"),
        ("ä" * 128, "has 256 bytes"),
        ("~nobody_of_that_name/x", "no such user"),
    ],
)
def test_what_no_file_system_takes_is_refused(given, message):
    with pytest.raises(UsageError, match=message) as refused:
        as_path(given)
    assert "\n" not in str(refused.value)


def test_a_cohort_that_is_read_from_python_follows_the_rule():
    with pytest.raises(UsageError, match="has 300 bytes"):
        Cohort.read("x" * 300)
