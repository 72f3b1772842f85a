from __future__ import annotations

import sys

import pytest

from datasets.errors import CohortError
from datasets.readers import READERS
from datasets.readers.optional_package import require_package


def test_a_package_that_is_not_there_is_named_with_the_extra_that_brings_it():
    with pytest.raises(CohortError) as caught:
        require_package("no_such_package.part", "Parquet")
    assert str(caught.value).startswith("Parquet needs the package no_such_package, which")
    assert "pip install -c constraints.txt -e '.[import]'" in str(caught.value)


@pytest.mark.parametrize("name", ["mzml", "imzml", "parquet", "xlsx"])
def test_readers_say_beforehand_what_they_import(name, monkeypatch):
    modules = READERS[name]().modules
    assert modules
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(CohortError, match="which is not installed"):
            require_package(module, name)
