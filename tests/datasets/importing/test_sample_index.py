from __future__ import annotations

import pytest

from datasets.errors import CohortError
from datasets.importing.sample_index import SampleIndex


@pytest.fixture
def index():
    index = SampleIndex(["label"])
    index.add("S1", "0", "a.txt", {"label": "case", "day": "Monday"})
    return index


def test_samples_keep_the_order_in_which_they_were_met(index):
    index.add("S0", "0", "b.txt", {"label": "control", "day": "Monday"})
    index.add("S1", "1", "c.txt", {"label": "case", "day": "Monday"})
    assert list(index.samples) == ["S1", "S0"]
    assert index.samples["S1"] == {"label": "case", "day": "Monday"}


def test_of_what_a_samples_scans_say_differently_it_has_no_value(index):
    for number, day in enumerate(["Friday", "Monday"], start=1):
        index.add("S1", str(number), "b.txt", {"label": "case", "day": day})
    assert index.samples["S1"] == {"label": "case", "day": ""}


def test_a_decisive_column_is_one_value(index):
    with pytest.raises(CohortError, match=r"two values of 'label': 'case' and, in b\.txt, 'con"):
        index.add("S1", "1", "b.txt", {"label": "control"})


@pytest.mark.parametrize(
    ("file", "where"), [("a.txt", "a.txt, twice"), ("b.txt", "a.txt and b.txt")]
)
def test_a_scan_of_the_same_name_is_a_duplicate(index, file, where):
    with pytest.raises(CohortError, match="duplicate: sample 'S1', scan '0'") as caught:
        index.add("S1", "0", file, {})
    assert where in str(caught.value)
