from __future__ import annotations

import numpy as np
import pytest

from datasets.errors import CohortError
from datasets.readers import RawScan
from datasets.readers.reader import Naming

FILE = "raw/species1/0_F9/2/1SLin/fid"


@pytest.fixture
def scan():
    return RawScan("old", "2", np.array([1.0]), np.array([1.0]), "here", columns={"label": "x"})


def test_without_patterns_the_readers_names_stay(scan):
    assert Naming().apply(scan, FILE, True) is scan


def test_patterns_name_sample_group_and_label(scan):
    naming = Naming(r"(species\d)/0_(\w+)", r"0_\w", r"species\d")
    named = naming.apply(scan, FILE, True)
    assert named.sample_id == "species1_F9"
    assert named.columns == {"label": "species1", "group": "0_F"}


@pytest.mark.parametrize(("one_scan", "name"), [(True, FILE), (False, f"{FILE}#2")])
def test_scans_of_files_that_become_one_sample_are_told_apart(scan, one_scan, name):
    assert Naming(sample="species1").apply(scan, FILE, one_scan).scan == name


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", "--sample-from '(' is no regular expression"),
        ("patient", "--sample-from 'patient' does not match 'raw/species1"),
        ("x*", "--sample-from 'x*' finds an empty name"),
    ],
)
def test_a_pattern_that_names_nothing_is_refused(scan, pattern, message):
    with pytest.raises(CohortError) as caught:
        Naming(sample=pattern).apply(scan, FILE, True)
    assert message in str(caught.value)
