from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from datasets.errors import UsageError
from experiments.config.components import alternatives
from experiments.config.names import CONFIGS
from experiments.config.schema import Config
from experiments.config.source import all_keys, check_config, load_config, set_key
from experiments.config.yaml_text import read_yaml, write_yaml

PUBLIC_KEYS = {
    "exp_name",
    "runs_dir",
    "seed",
    "data.root",
    "data.labels",
    "data.group",
    "data.numeric",
    "data.categorical",
    "data.num_workers",
    "model.name",
    "model.params",
    "loss.name",
    "loss.params",
    "trainer.max_epochs",
    "trainer.batch_size",
    "trainer.device",
    "optimizer.name",
    "optimizer.lr",
    "lr_scheduler.name",
    "lr_scheduler.warmup_steps",
    "checkpoint.monitor",
    "ema.decay",
    "handlers",
    "report.enabled",
}

PLAIN_FILE = """
seed: 2025
trainer:
  precision: fp16
  grad_clip: 1.0
  accumulate_steps: 2
  early_stopping:
    monitor: val/auroc
    mode: max
    patience: 10
optimizer:
  name: adamw
  lr: 3e-4
  weight_decay: 0.01
lr_scheduler:
  name: cosine
  warmup_steps: 1000
checkpoint:
  save_top_k: 3
  save_last: true
  monitor: val/auroc
  mode: max
"""


def test_the_keys_that_scripts_rely_on_exist():
    assert set(all_keys(Config)) >= PUBLIC_KEYS


def test_a_plain_file_without_a_data_section_loads_as_it_stands(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(PLAIN_FILE)
    config = load_config(str(path))
    assert config.exp_name == "mine"
    assert config.data.root is None
    assert config.optimizer.lr == 3e-4
    assert config.trainer.accumulate_steps == 2
    stopping = config.trainer.early_stopping
    assert stopping is not None
    assert stopping.patience == 10


def test_the_command_line_wins_over_file_and_defaults(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("trainer: {max_epochs: 7, batch_size: 4}\n")
    config = load_config(
        str(path),
        [("trainer.batch_size", "9"), ("data.labels", "{HCC: 1, LC: 0}"), ("ema.decay", "0.9")],
    )
    assert (config.trainer.max_epochs, config.trainer.batch_size) == (7, 9)
    assert config.data.labels == {"HCC": 1, "LC": 0}
    assert config.ema.decay == 0.9
    assert config.trainer.grad_clip == Config().trainer.grad_clip


def test_json_files_work_like_yaml_ones(tmp_path):
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"optimizer": {"lr": 0.01}}))
    assert load_config(str(path)).optimizer.lr == 0.01


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_configurations_survive_being_written(path):
    config = load_config(path.stem)
    assert config.exp_name == path.stem
    assert check_config(read_yaml(write_yaml(config.plain()), "again")) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"trainer": {"lr": 1}}, "unknown key 'trainer.lr'; did you mean 'optimizer.lr'?"),
        ({"optimizr": {}}, "unknown key 'optimizr'; did you mean 'optimizer'?"),
        (
            {"trainer": {"early_stopping": {"patiense": 3}}},
            "unknown key 'trainer.early_stopping.patiense'; "
            "did you mean 'trainer.early_stopping.patience'?",
        ),
        ({"max_epochs": 3}, "unknown key 'max_epochs'; did you mean 'trainer.max_epochs'?"),
        ({"trainer": {"max_epochs": "ten"}}, "trainer.max_epochs: .*valid integer.*got 'ten'"),
        ({"trainer": {"max_epochs": 0}}, "trainer.max_epochs: .*greater than or equal to 1"),
        ({"trainer": {"precision": "fp8"}}, "trainer.precision: .*'fp32', 'tf32', .* or 'fp16'"),
        ({"optimizer": {"lr": "fast"}}, "optimizer.lr: .*valid number.*got 'fast'"),
        ({"handlers": [{"params": {}}]}, r"handlers.0.name: this key is required"),
        ({"exp_name": "a/b"}, "exp_name: "),
        ({"data": {"split": {"fractions": [0.5, 0.1, 0.1]}}}, "data.split.fractions: .*sum to 1"),
        ({"data": {"transforms": [3]}}, "data.transforms.0: "),
        ({"model": {"name": "tft", "dropout": 0.1}}, "did you mean 'model.params.dropout'?"),
        ({"optimizer": {"momentum": 0.9}}, "did you mean 'optimizer.params.momentum'?"),
        (
            {"handlers": [{"name": "early_stopping", "patience": 3}]},
            "unknown key 'handlers.0.patience'; did you mean 'handlers.0.params.patience'?",
        ),
        ({"data": {"transforms": [{"name": "crop", "low": 1}]}}, "data.transforms.0.params.low"),
        ({"trainer": 5}, "^trainer: a section with keys was expected, got 5$"),
        ({"data": {"numeric": [["a"]]}}, "^data.numeric.0: .*valid string, got"),
        ({"data": {"labels": ["a"]}}, "^data.labels: keys with values were expected, got"),
        ({"trainer": {"precision": "fp15"}}, "got 'fp15'; did you mean 'fp16'?"),
        ({"exp_name": "x" * 999}, "^exp_name: has 999 bytes, at most 160"),
        (
            {"audit": {"accept": ["ordr"]}},
            "^audit.accept: no finding .*'ordr'; did you mean 'order'",
        ),
        ({"audit": {"accept": ""}}, "^audit.accept: no finding is called ''"),
        ({"data": {"root": "a", "simulated": {"seed": 1}}}, "simulated has no effect beside root"),
        (
            {"data": {"simulated": {"technique": "ramn"}}},
            "^data.simulated.technique: .*got 'ramn'; did you mean 'raman'",
        ),
        (
            {"data": {"simulated": {"interactions": 1.5}}},
            "^data.simulated.interactions: .*less than or equal to 0.95, got 1.5",
        ),
        (
            {"data": {"simulated": {"interaction": 0.5}}},
            "did you mean 'data.simulated.interactions'",
        ),
        (
            {"data": {"simulated": {"cosmic_spikes": 1}}},
            "^data.simulated: cosmic_spikes goes with technique raman, not maldi",
        ),
        (
            {"data": {"simulated": {"subtypes": 1}}},
            "^data.simulated: subtypes .* at least 2, not 1",
        ),
        ({"optimizer": {"params": {"lr": 5}}}, "params.lr would be a second value for lr"),
        ({"lr_scheduler": {"params": {"warmup_steps": 5}}}, "second value for warmup_steps"),
        ({"lr_scheduler": {"name": "cosin"}}, "^lr_scheduler.name: .*did you mean 'cosine'"),
        (
            {"lr_scheduler": {"name": "step", "params": {"step_epochs": 2, "step_size": 9}}},
            "params.step_epochs has no effect beside params.step_size",
        ),
        (
            {"handlers": [{"name": "lr_schedule", "params": {"gamma": 0.5}}]},
            "^handlers.0.params.gamma has no effect on 'cosine', only on step$",
        ),
    ],
)
def test_a_wrong_configuration_is_one_line_that_names_the_key(values, message):
    with pytest.raises(UsageError, match=message) as error:
        check_config(values)
    assert "\n" not in str(error.value)


UNBOUNDED = (1e30, -1e30, math.inf, -math.inf, math.nan)


def numbers(schema, prefix=""):
    """The dotted keys of all numbers."""
    for name, field in schema.model_fields.items():
        kinds = alternatives(field.annotation)
        if {int, float} & set(kinds):
            yield prefix + name
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from numbers(kind, f"{prefix}{name}.")


@pytest.mark.parametrize("key", list(numbers(Config)))
def test_every_number_has_bounds_and_is_finite(key):
    for number in (*UNBOUNDED, True):
        values = {
            "model": {"name": "tft"},
            "trainer": {"early_stopping": {}},
            "report": {"threshold": {"rule": "cost"}},
        }
        set_key(values, key, number)
        with pytest.raises(UsageError, match=f"^{key}: "):
            check_config(values)


@pytest.mark.parametrize("key", ["lr_scale", "weight_decay"])
def test_numbers_in_lists_have_bounds_too(key):
    for number in UNBOUNDED:
        values = {"optimizer": {"groups": [{"match": "head", key: number}]}}
        with pytest.raises(UsageError, match=f"optimizer.groups.0.{key}: "):
            check_config(values)


@pytest.mark.parametrize("section", ["model", "loss", "optimizer", "lr_scheduler"])
def test_parameters_are_finite_however_deep(section):
    values = {section: {"name": "cosine", "params": {"a": [1.0, {"b": math.nan}]}}}
    with pytest.raises(UsageError, match=rf"{section}.params: a\.1\.b has to be a finite number"):
        check_config(values)


@pytest.mark.parametrize("resamples", [1, 39])
def test_too_few_resamples_are_refused_and_none_are_a_choice(resamples):
    with pytest.raises(UsageError, match=r"report.resamples: an interval takes at least 40"):
        check_config({"report": {"resamples": resamples}})
    assert check_config({"report": {"resamples": 0}}).report.resamples == 0


def test_a_threshold_rule_for_values_is_refused():
    values = {"data": {"task": "regression"}, "report": {"threshold": {"rule": "f1"}}}
    with pytest.raises(UsageError, match=r"report.threshold.rule: 'f1' is for classes"):
        check_config(values)


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("data.root", "2024", Path("2024")),
        ("data.root", "a: b #1", Path("a: b #1")),
        ("exp_name", "2024", "2024"),
        ("exp_name", "'2024'", "2024"),
        ("data.group", "010", "010"),
        ("data.label", "2024", "2024"),
        ("data.split.batch", "no", "no"),
        ("trainer.max_epochs", "010", 10),
    ],
)
def test_the_command_line_is_read_by_the_type_of_the_key(key, text, expected):
    overrides = [(key, text)]
    if key == "data.split.batch":
        overrides.append(("data.split.kind", "leave_one_batch_out"))
    found = load_config("tft_baseline", overrides)
    for part in key.split("."):
        found = getattr(found, part)
    assert found == expected


def test_a_folds_name_that_is_no_plain_number_stays_text():
    kind = [("data.split.kind", "leave_one_group_out")]
    for text, expected in (("010", "010"), ("2024-01-15", "2024-01-15"), ("1", 1), ("'1'", "1")):
        config = load_config("tft_baseline", [*kind, ("data.split.fold", text)])
        assert config.data.split.fold == expected


def test_a_bare_name_stands_for_a_list_or_a_section():
    config = load_config(
        "tft_baseline",
        [
            ("metrics", "auroc"),
            ("handlers", "[gradient_norm, {name: throughput}]"),
            ("data.numeric", "age"),
            ("data.transforms", "tic"),
            ("model", "tft"),
            ("model.params.dropout", "0.1"),
        ],
    )
    assert config.metrics == ["auroc"]
    assert [named.name for named in config.handlers] == ["gradient_norm", "throughput"]
    assert (config.data.numeric, config.data.transforms) == (["age"], ["tic"])
    assert (config.model.name, config.model.params) == ("tft", {"dropout": 0.1})


@pytest.mark.parametrize("text", ["", "  ", "''", '""'])
@pytest.mark.parametrize(
    "key", ["data.root", "data.cache_dir", "runs_dir", "data.group", "data.label", "model.name"]
)
def test_an_empty_value_on_the_command_line_is_refused(key, text):
    with pytest.raises(UsageError, match=f"{key}.* empty"):
        load_config("tft_baseline", [(key, text)])


@pytest.mark.parametrize("key", ["seed", "metrics", "lr_scheduler", "trainer.early_stopping"])
def test_empty_is_refused_where_no_text_is_wanted_too(key):
    for text in ("", "# nothing"):
        with pytest.raises(UsageError, match=f"^--{key} is empty"):
            load_config("tft_baseline", [(key, text)])


@pytest.mark.parametrize("key", ["runs_dir", "data.root", "data.cache_dir", "data.split.file"])
def test_every_path_follows_one_rule(key, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    found = load_config("tft_baseline", [(key, "~/x")])
    for part in key.split("."):
        found = getattr(found, part)
    assert found == tmp_path / "x"
    with pytest.raises(UsageError, match=f"{key}: the name .* has 300 bytes; at most 255 fit"):
        load_config("tft_baseline", [(key, "x" * 300)])


def test_a_saved_configurations_files_are_found_anywhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    overrides = [("data.root", "a"), ("data.cache_dir", "b"), ("data.split.file", "c.csv")]
    data = load_config("tft_baseline", overrides).plain()["data"]
    assert (data["root"], data["cache_dir"]) == (str(tmp_path / "a"), str(tmp_path / "b"))
    assert data["split"]["file"] == str(tmp_path / "c.csv")


def test_merge_keys_work_in_a_configuration(tmp_path):
    path = tmp_path / "m.yaml"
    path.write_text("trainer: &t {max_epochs: 3}\nema: {decay: 0.9}\n")
    assert load_config(str(path)).trainer.max_epochs == 3
    path.write_text(
        "data:\n  transforms:\n  - &c {name: crop, params: {low: 1, high: 2}}\n"
        "  - {<<: *c, params: {low: 3, high: 4}}\n"
    )
    first, second = load_config(str(path)).plain()["data"]["transforms"]
    assert first == {"name": "crop", "params": {"low": 1, "high": 2}}
    assert second == {"name": "crop", "params": {"low": 3, "high": 4}}


def test_a_value_that_holds_itself_is_refused(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("model: {name: tft, params: &p {a: *p}}\n")
    with pytest.raises(UsageError, match="a value holds itself"):
        load_config(str(path))


def test_the_embedded_cohort_alone_brings_its_own_columns():
    for name in ("tft_baseline", "tabular_only"):
        assert load_config(name).data.log == ["CRP", "ALT", "AST", "GGT", "albumin"]
        assert load_config(name, [("data.root", "mine")]).data.log == []
        assert load_config(name, [("data.log", "[age]")]).data.log == ["age"]
    few = load_config("tft_baseline", [("data.numeric", "[age, CRP, AST]"), ("data.label", "AST")])
    assert few.data.log == ["CRP"]


def test_a_value_where_a_section_belongs_is_refused():
    with pytest.raises(UsageError, match="'seed' is a value, not a section"):
        load_config("tft_baseline", [("seed", "3"), ("seed.value", "3")])


def test_a_misspelt_name_gets_the_nearest(tmp_path):
    with pytest.raises(UsageError, match="did you mean 'tft_baseline'"):
        load_config("tft_basline")
    (tmp_path / "here.yaml").write_text("seed: 1")
    wanted = str(tmp_path / "hera.yaml")
    with pytest.raises(UsageError, match=r"does not exist; did you mean '.*here.yaml'"):
        load_config(wanted)


def test_a_file_that_is_no_text_or_no_mapping_is_refused(tmp_path):
    (tmp_path / "latin.yaml").write_bytes(b"exp_name: caf\xe9")
    with pytest.raises(UsageError, match=re.escape("not UTF-8 text")):
        load_config(str(tmp_path / "latin.yaml"))
    (tmp_path / "list.yaml").write_text("- 1\n- 2\n")
    with pytest.raises(UsageError, match="expected sections and keys, got list"):
        load_config(str(tmp_path / "list.yaml"))


def test_a_root_on_the_command_line_replaces_the_files_simulated_cohort(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("data: {simulated: {n_samples: 80}}")
    config = load_config(str(path), [("data.root", "c")])
    assert str(config.data.root) == "c"
    assert config.data.simulated.n_samples == 900
    both = [("data.root", "c"), ("data.simulated.n_samples", "80")]
    with pytest.raises(UsageError, match="simulated has no effect beside root"):
        load_config(str(path), both)
