from __future__ import annotations

import json
import re

import pytest

from datasets.errors import UsageError
from experiments.config import Config
from experiments.config_source import CONFIGS, all_keys, check_config, load_config
from experiments.yaml_text import read_yaml, write_yaml

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


def test_the_command_line_wins_over_the_file_and_the_file_over_the_defaults(tmp_path):
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
def test_every_shipped_configuration_is_valid_and_survives_being_written(path):
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
    ],
)
def test_a_wrong_configuration_is_one_line_that_names_the_key(values, message):
    with pytest.raises(UsageError, match=message) as error:
        check_config(values)
    assert "\n" not in str(error.value)


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
