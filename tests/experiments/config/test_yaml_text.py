from __future__ import annotations

import math

import pytest

from datasets.errors import UsageError
from experiments.config.yaml_text import read_yaml, write_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-4", 3e-4),
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        ("-2.5e+3", -2500.0),
        (".5", 0.5),
        ("1", 1),
        ("1.0", 1.0),
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("1e", "1e"),
        ("e3", "e3"),
        (".inf", math.inf),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("12:30", "12:30"),
        ("2024-01-15", "2024-01-15"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("~", None),
    ],
)
def test_scalars_are_read_as_people_expect(text, value):
    read = read_yaml(text, "here")
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        *("010", "0o7", "12:30", "2024-01-15", "1_000", "<<", "~", "1e-3", "3e4", "no", "yes"),
        *("true", "null", "1", "0.5", "NaN", "", "läbel", 1e-7, True, None),
    ],
)
def test_what_is_written_is_read_back_the_same(value):
    read = read_yaml(write_yaml({"key": value}), "here")["key"]
    assert read == value
    assert type(read) is type(value)


def test_a_repeated_key_is_refused_with_its_place():
    with pytest.raises(UsageError, match=r"file.yaml, line 3.*'lr' stands twice"):
        read_yaml("lr: 1\nname: x\nlr: 2\n", "file.yaml")


def test_keys_that_are_one_number_stand_twice():
    with pytest.raises(UsageError, match="the key '0x1' stands twice"):
        read_yaml("{1: a, 0x1: b}", "f")


def test_merge_keys_are_merged_and_what_is_written_wins():
    text = "a: &a {x: 1, y: 2}\nb: &b {<<: *a, x: 3}\nc: {<<: [*b, *a], z: 1}\n"
    assert read_yaml(text, "f") == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 3, "y": 2},
        "c": {"x": 3, "y": 2, "z": 1},
    }
    with pytest.raises(UsageError, match=r"f, line 1.*expected a mapping"):
        read_yaml("{<<: 3}", "f")


@pytest.mark.parametrize(
    "text", ["!!timestamp x", "!!bool x", "!!int 12:30", "1" * 5000, "[" * 9999]
)
def test_what_cannot_be_read_is_one_line(text):
    with pytest.raises(UsageError, match=r"^f.*: not valid YAML") as error:
        read_yaml(text, "f")
    assert "\n" not in str(error.value)


def test_broken_yaml_is_one_line_with_its_place():
    with pytest.raises(UsageError, match=r"^f, line 2, column \d+: not valid YAML") as error:
        read_yaml("a: [1,\nb: }", "f")
    assert "\n" not in str(error.value)


def test_no_object_is_ever_constructed():
    with pytest.raises(UsageError, match="not valid YAML"):
        read_yaml("!!python/object/apply:os.getcwd []", "f")


def test_json_is_read_too():
    assert read_yaml('{"optimizer": {"lr": 3e-4}}', "f.json") == {"optimizer": {"lr": 3e-4}}
