from __future__ import annotations

import re
from pathlib import Path

import pytest

from datasets.errors import UsageError
from experiments.config import load_config
from experiments.sweep import EPILOG
from experiments.sweeps.search_space import as_overrides, read_space

optuna = pytest.importorskip("optuna", reason="Optuna is an extra: pip install 'scanfire[sweep]'")

ROOT = Path(__file__).resolve().parents[3]
SPACE = """
optimizer.lr: {float: [1e-5, 1e-2], log: true}
model.params.dropout: {float: [0.0, 0.5], step: 0.25}
trainer.max_epochs: {int: [2, 4]}
trainer.batch_size: [8, 16]
data.transforms: [[tic, sqrt], [snv]]
lr_scheduler.name: [cosine, step]
lr_scheduler.params.gamma: {float: [0.1, 0.9], when: {lr_scheduler.name: step}}
"""


@pytest.fixture
def read(tmp_path):
    def from_text(text, overrides=(), source="tft_baseline"):
        path = tmp_path / "space.yaml"
        path.write_text(text)
        return read_space(path, source, overrides)

    return from_text


def test_the_guides_and_the_helps_example_are_spaces(read):
    guide = (ROOT / "docs" / "guide" / "sweep.md").read_text("utf-8")
    (space, *_) = re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)
    assert len(read(space).axes) == 7
    example = "\n".join(re.findall(r"^  (\w[\w.]+: .*)$", EPILOG, re.MULTILINE))
    assert len(read(example).axes) == 5


def drawn(space, count=40):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [space.suggest(study.ask()) for _ in range(count)]


def test_each_setting_is_drawn_from_its_own_values(read):
    found = drawn(read(SPACE))
    assert all(1e-5 <= values["optimizer.lr"] <= 1e-2 for values in found)
    assert sum(values["optimizer.lr"] < 1e-3 for values in found) > 20  # even on a log scale
    assert {values["model.params.dropout"] for values in found} == {0.0, 0.25, 0.5}
    assert {values["trainer.max_epochs"] for values in found} == {2, 3, 4}
    assert {values["trainer.batch_size"] for values in found} == {8, 16}
    assert {values["data.transforms"] for values in found} == {'["tic", "sqrt"]', '["snv"]'}


def test_a_condition_leaves_a_setting_out(read):
    for values in drawn(read(SPACE)):
        steps = values["lr_scheduler.name"] == "step"
        assert ("lr_scheduler.params.gamma" in values) == steps


def test_what_is_drawn_is_a_configuration(read):
    for values in drawn(read(SPACE), count=5):
        config = load_config("tft_baseline", as_overrides(values))
        assert config.optimizer.lr == values["optimizer.lr"]
        assert config.trainer.max_epochs == values["trainer.max_epochs"]
        assert list(config.data.transforms) in (["tic", "sqrt"], ["snv"])
        assert config.model.params["dropout"] == values["model.params.dropout"]
        assert config.model.params["patch_size"] == 64  # what is not searched stays


def test_the_first_values_are_one_of_the_configurations(read):
    first = read(SPACE).first()
    assert first["optimizer.lr"] == 1e-5
    assert first["lr_scheduler.name"] == "cosine"
    assert "lr_scheduler.params.gamma" not in first


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimizer.lrr: [1, 2]", "unknown key 'optimizer.lrr'; did you mean 'optimizer.lr'"),
        ("optimizer.lr: {float: [1e-5, 1000]}", "optimizer.lr: .*less than or equal to 100"),
        ("trainer.batch_size: [8, many]", "trainer.batch_size: .*integer"),
        ("trainer.batch_size: {float: [8, 32]}", "trainer.batch_size: .*integer"),
        ("lr_scheduler.name: [cosine, stepp]", "'stepp'; did you mean 'step'"),
        ("data.root: [a, b]", "data.root: it decides which figure is measured"),
        ("data.split.seed: [1, 2]", "data.split.seed: it decides which figure is measured"),
        ("seed: [1, 2]", "seed: it decides"),
        ("checkpoint.monitor: [val/loss, val/auroc]", "checkpoint.monitor: it decides"),
        ("optimizer.lr: 0.1", "optimizer.lr: expected {float: .LOW, HIGH.}"),
        ("optimizer.lr: {flaot: [1, 2]}", "did you mean 'float'"),
        ("optimizer.lr: {float: [1, 2], lag: true}", "float has no 'lag'; did you mean 'log'"),
        ("optimizer.lr: {float: [2, 1]}", "the first has to be less than the second"),
        ("optimizer.lr: {float: [0, 1], log: true}", "the range has to begin above 0"),
        ("optimizer.lr: {float: [1, 2, 3]}", "two numbers were expected"),
        ("optimizer.lr: {float: [a, b]}", "two numbers were expected"),
        ("optimizer.lr: {float: [0.1, 1], log: true, step: 0.1}", "log and step exclude"),
        ("optimizer.lr: {float: [0.1, 1], step: 2}", "step: a number up to 0.9"),
        ("trainer.batch_size: {int: [8.5, 32]}", "two whole numbers were expected"),
        ("trainer.batch_size: [8]", "two choices or more"),
        ("trainer.batch_size: [8, 8]", "8 stands twice"),
        ("optimizer.lr: {float: [0.1, 1], when: {model.name: tft}}", "is no key above it"),
        (
            "lr_scheduler.name: [cosine, step]\n"
            "lr_scheduler.params.gamma: {float: [0.1, 1], when: {lr_scheduler.name: stop}}",
            "lr_scheduler.name is never .*did you mean 'step'",
        ),
        (
            "model.params.dropout: [0.1, 0.2]\nmodel: [{name: tft}, {name: pca_mlp}]",
            "model: it would replace model.params.dropout",
        ),
        ("- optimizer.lr", "expected keys of the configuration"),
        ("", "expected keys of the configuration"),
    ],
)
def test_a_mistake_in_the_space_is_one_line(read, text, message, tmp_path):
    with pytest.raises(UsageError, match=message) as told:
        read(text)
    assert "\n" not in str(told.value)
    assert str(tmp_path / "space.yaml") in str(told.value)


def test_a_setting_that_the_command_line_fixes_is_not_searched(read):
    with pytest.raises(UsageError, match=r"optimizer\.lr: it is searched, so --optimizer\.lr has"):
        read("optimizer.lr: {float: [1e-5, 1e-2]}", [("optimizer.lr", "1")])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"--space: cannot read .*absent\.yaml: No such file"):
        read_space(tmp_path / "absent.yaml", "tft_baseline")
