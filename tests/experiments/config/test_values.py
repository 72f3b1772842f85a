from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

from experiments.config.changed_settings import Change, describe_changes
from experiments.config.components import alternatives, find_named, metric_name
from experiments.config.schema import Config, default_loss
from experiments.config.source import read_override, set_key, shorten, typed
from experiments.config.yaml_text import Written, read_written, read_yaml, write_yaml


def test_a_change_is_one_line():
    told = describe_changes([Change("optimizer.lr", 0.01, 1e-05)])
    assert told == "continued with optimizer.lr 1e-05 (before: 0.01)"


def test_a_dotted_path_is_imported():
    assert find_named("collections.Counter", {}, "model.name") is Counter


def test_a_union_has_alternatives_without_constraints():
    found = alternatives(Annotated[int, "positive"] | str | None)
    assert found == [int, str, type(None)]


def test_a_metric_is_called_by_the_last_part_of_its_path():
    names = [metric_name("auroc"), metric_name("my_package.scores.net_benefit")]
    assert names == ["auroc", "net_benefit"]
    assert metric_name("recall_at_fpr@0.05") == "recall_at_fpr@0.05"


def test_values_have_squared_errors_by_default():
    assert default_loss("regression", False, {}) == ("mse", {})


def test_an_open_key_has_its_default():
    assert Config.model_validate({"optimizer": {"lr": 1e-3}}).optimizer.name == "adamw"


def test_a_dotted_key_is_set_beside_the_others():
    values = {"trainer": {"max_epochs": 3}}
    set_key(values, "trainer.batch_size", 8)
    assert values == {"trainer": {"max_epochs": 3, "batch_size": 8}}


def test_a_longer_text_is_cut():
    assert shorten("abcdefgh", 6) == "abc..."


def test_what_was_written_is_kept_where_text_is_wanted():
    assert typed({"a": Written(10, "010")}, dict[str, str]) == {"a": "010"}
    assert typed([Written(10, "010")], Any) == [10]
    assert read_written("{group: 010}", "here") == {"group": Written(10, "010")}


def test_an_override_of_text_is_no_yaml():
    assert read_override("a #1: b", str, "--data.group") == "a #1: b"
    assert read_override("2", int, "--seed") == Written(value=2, text="2")


def test_yaml_is_read_by_the_core_schema():
    found = read_yaml("{lr: 3e-4, fold: 010, labels: {yes: 1, no: 0}}", "here")
    assert found == {"lr": 0.0003, "fold": 10, "labels": {"yes": 1, "no": 0}}


def test_text_that_looks_like_a_number_is_quoted():
    written = write_yaml({"a": "1e-3", "b": 1e-3, "c": "no"})
    assert written == "a: '1e-3'\nb: 0.001\nc: no\n"
