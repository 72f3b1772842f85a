from __future__ import annotations

from pathlib import Path

import pytest

from datasets.errors import UsageError
from engine.losses import LOSSES
from experiments.config.components import find_named, parameter_types
from experiments.config.schema import Config
from experiments.config.source import typed
from experiments.config.yaml_text import read_written
from handlers import HANDLERS


def read(text, wanted=Config):
    return typed(read_written(text, "here"), wanted)


@pytest.mark.parametrize(
    "text", ["010", "2024", "12:30", "2024-01-15", "1_000", "no", "true", "1.0"]
)
@pytest.mark.parametrize(
    "key", ["data.root", "data.cache_dir", "runs_dir", "exp_name", "data.group", "data.label"]
)
def test_names_and_paths_are_text_as_written(key, text):
    *sections, last = key.split(".")
    document = "".join(f"{section}: {{" for section in sections) + f"{last}: {text}"
    values = read(document + "}" * len(sections)) if sections else read(document)
    for section in sections:
        values = values[section]
    assert values[last] == text


def test_text_is_text_in_lists_and_as_a_key():
    values = read("data: {numeric: [010, no], labels: {010: 1, true: 0}, transforms: [2024]}")
    assert values["data"]["numeric"] == ["010", "no"]
    assert values["data"]["labels"] == {"010": 1, "true": 0}
    assert values["data"]["transforms"] == ["2024"]


def test_numbers_are_numbers_where_numbers_are_wanted():
    values = read("{seed: 010, trainer: {max_epochs: 0x10, grad_clip: 1e3}, ema: {warmup: false}}")
    assert values["seed"] == 10
    assert values["trainer"] == {"max_epochs": 16, "grad_clip": 1000.0}
    assert values["ema"]["warmup"] is False


def test_parameters_follow_the_constructor_that_they_go_to():
    values = read(
        "handlers: [{name: wandb, params: {project: 2024, tags: [010, no], folder: 010}},"
        " {name: my.Handler, params: {a: 010}}]\n"
        "lr_scheduler: {name: plateau, params: {monitor: 010, patience: 010}}"
    )
    named, own = values["handlers"]
    assert named["params"] == {"project": "2024", "tags": ["010", "no"], "folder": "010"}
    assert own["params"] == {"a": 10}
    assert values["lr_scheduler"]["params"] == {"monitor": "010", "patience": 10}


@pytest.mark.parametrize("registry", [HANDLERS, LOSSES], ids=["handlers", "losses"])
def test_the_types_of_parameters_are_known(registry):
    unknown = [name for name in registry if not parameter_types(find_named(name, registry, "name"))]
    assert set(unknown) <= {"report", "validation"}  # they take what only a run has


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("data: {root: }", "data.root"),
        ("exp_name:", "exp_name"),
        ("data: {numeric: [age, ]}\nlr_scheduler:", "lr_scheduler"),
        ("trainer: {early_stopping: }", "trainer.early_stopping"),
        ("handlers: [{name: }]", "handlers.0.name"),
        ("model: {name: tft, params: {dropout: }}", "model.params.dropout"),
    ],
)
def test_an_empty_value_is_refused_by_its_key(text, key):
    with pytest.raises(UsageError, match=f"^{key} is empty"):
        read(text)


def test_null_is_a_choice_and_a_tilde_a_path():
    assert read("data: {root: null, group: ~}")["data"] == {"root": None, "group": None}
    assert read("data: {root: ~}")["data"] == {"root": Path("~")}


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("data: {labels: {1: 0, '1': 1}}", "data.labels.1"),
        ("data: {labels: {~: 0, '~': 1}}", "data.labels.~"),
        ("model: {name: tft, params: {1: a, '1': b}}", "model.params.1"),
    ],
)
def test_a_number_and_its_text_are_one_key(text, key):
    with pytest.raises(UsageError, match=f"^{key} stands twice"):
        read(text)
