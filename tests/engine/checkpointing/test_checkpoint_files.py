from __future__ import annotations

import random
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch

from engine.checkpointing.checkpoint_files import (
    CheckpointError,
    broken_weight,
    check_meta,
    load_checkpoint,
    newest_whole_checkpoint,
    save_checkpoint,
)

WEIGHT = torch.arange(6.0).reshape(2, 3)
STATES = {
    "model": OrderedDict(weight=WEIGHT),
    "trainer": {"iteration": 7, "metrics": {"val/auroc": 0.5, "x": float("nan")}, "rng": [1, None]},
}


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "a.pt"
    save_checkpoint(path, STATES, {"cohort": {"spectra.npy": "ab"}})
    return path


def save_at(path, iteration):
    save_checkpoint(path, {"trainer": {"iteration": iteration}})


def test_what_was_saved_comes_back(saved):
    content = load_checkpoint(saved)
    assert torch.equal(content["states"]["model"]["weight"], WEIGHT)
    assert content["states"]["trainer"]["iteration"] == 7
    assert content["meta"] == {"cohort": {"spectra.npy": "ab"}}


def test_torch_and_zip_open_the_file_without_this_project(saved):
    content = torch.load(saved, weights_only=True)
    assert content["states"]["trainer"]["rng"] == [1, None]
    assert zipfile.ZipFile(saved).testzip() is None


def test_any_changed_byte_is_found(saved):
    whole = saved.read_bytes()
    choose = random.Random(0)
    for place in [0, 1, len(whole) - 1, *(choose.randrange(len(whole)) for _ in range(100))]:
        damaged = bytearray(whole)
        damaged[place] ^= 1
        saved.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"a\.pt is "):
            load_checkpoint(saved)


def test_a_file_cut_anywhere_is_refused(saved):
    whole = saved.read_bytes()
    for length in [0, 3, 100, len(whole) // 2, len(whole) - 64, len(whole) - 1]:
        saved.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"a\.pt is no"):
            load_checkpoint(saved)


def test_files_of_others_are_refused(tmp_path):
    torch.save({"weights": torch.ones(2)}, tmp_path / "foreign.pt")
    (tmp_path / "text.pt").write_text("hello")
    for name in ("foreign.pt", "text.pt"):
        with pytest.raises(CheckpointError, match=f"{name} is no"):
            load_checkpoint(tmp_path / name)


def test_a_missing_file_is_named_with_the_nearest_that_is_there(saved):
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*aa\.pt; did you mean 'a\.pt'"):
        load_checkpoint(saved.parent / "aa.pt")
    with pytest.raises(CheckpointError, match="Is a directory"):
        load_checkpoint(saved.parent)


def test_every_message_is_one_line(saved):
    saved.write_bytes(saved.read_bytes()[:-1])
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(saved)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "value", [np.float64(1.0), np.ones(2), object(), [np.int64(3)], {1: np.int64(3)}]
)
def test_a_state_that_would_not_load_is_refused_at_saving(tmp_path, value):
    with pytest.raises(TypeError, match=r"states\.ema\.decay\S* holds a"):
        save_checkpoint(tmp_path / "a.pt", {"ema": {"decay": value}})
    assert not list(tmp_path.iterdir())


def test_a_newer_format_is_refused(saved, monkeypatch):
    monkeypatch.setattr("engine.checkpointing.checkpoint_files.VERSION", 2)
    save_checkpoint(saved, STATES)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="version 2"):
        load_checkpoint(saved)


def test_a_run_continues_from_last(tmp_path):
    save_at(tmp_path / "last.pt", 5)
    save_at(tmp_path / "best.pt", 3)
    path, content, skipped = newest_whole_checkpoint(tmp_path)
    assert (path.name, content["states"]["trainer"]["iteration"], skipped) == ("last.pt", 5, [])


def test_a_damaged_last_checkpoint_is_replaced_by_the_furthest(tmp_path):
    save_at(tmp_path / "best.pt", 2)
    save_at(tmp_path / "epoch=002-x=0.1.pt", 2)
    save_at(tmp_path / "epoch=003-x=0.0.pt", 3)
    save_at(tmp_path / "epoch=004-x=0.0.pt", 4)
    (tmp_path / "last.pt").write_bytes((tmp_path / "best.pt").read_bytes()[:-9])
    (tmp_path / "epoch=004-x=0.0.pt").write_bytes(b"")
    path, _, skipped = newest_whole_checkpoint(tmp_path)
    assert path.name == "epoch=003-x=0.0.pt"
    assert len(skipped) == 2
    assert "last.pt" in skipped[0]
    assert "epoch=004" in skipped[1]


def test_where_last_is_missing_that_is_said(tmp_path):
    save_at(tmp_path / "best.pt", 2)
    path, _, skipped = newest_whole_checkpoint(tmp_path)
    assert path.name == "best.pt"
    assert "no checkpoint at" in skipped[0]


def test_no_whole_checkpoint_is_one_line(tmp_path):
    (tmp_path / "last.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match="no whole checkpoint in") as caught:
        newest_whole_checkpoint(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_other_data_names_all_differences():
    now = {"cohort": {"spectra.npy": "a", "axis.npy": "b"}, "split": "c", "model": "d"}
    check_meta(now, dict(now))
    saved = {"cohort": {"spectra.npy": "x", "axis.npy": "b"}, "split": "y", "model": "d"}
    with pytest.raises(
        CheckpointError, match=r"the cohort differs: spectra\.npy; the split differs$"
    ):
        check_meta(saved, now)
    with pytest.raises(CheckpointError, match=r"the model differs$"):
        check_meta({key: now[key] for key in ("cohort", "split")}, now)


def test_a_weight_that_is_not_finite_is_named():
    linear, norm = torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)
    model, mean = torch.nn.Sequential(linear, norm), norm.get_buffer("running_mean")
    assert broken_weight(model) is None
    mean.fill_(float("inf"))  # a buffer may be a mask
    assert broken_weight(model) is None
    mean.fill_(float("nan"))
    assert broken_weight(model) == "1.running_mean"
    with torch.no_grad():
        linear.bias[1] = float("inf")
    assert broken_weight(model) == "0.bias"
    assert broken_weight(torch.nn.ReLU()) is None
