"""Whatever happens while a checkpoint is saved, the files that stand are whole and sound."""

from __future__ import annotations

import math
import resource
from pathlib import Path

import pytest
import torch
from ignite.engine import Events

from engine.checkpointing import CheckpointError, load_checkpoint
from handlers.checkpoint import Checkpoint
from tests.handlers.test_checkpoint import fit, names, notices

NAN, INF = math.nan, math.inf


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run" / "checkpoints"


def test_an_old_file_goes_only_after_the_new_one_stands(make_trainer, loader, folder, monkeypatch):
    trainer, before = make_trainer(), []
    unlink = Path.unlink

    def note(path, **kwargs):
        before.append((path.name, names(folder)))
        unlink(path, **kwargs)

    monkeypatch.setattr(Path, "unlink", note)
    fit(trainer, loader, [0.1, 0.2], Checkpoint(save_top_k=1))
    removed, standing = before[-1]
    assert removed.startswith("epoch=001")
    assert "epoch=002-val_auroc=0.200000.pt" in standing


def test_a_full_disk_ends_the_run_and_earlier_files_load(make_trainer, loader, folder):
    trainer = make_trainer()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_the_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))

    trainer.add_event_handler(Events.EPOCH_COMPLETED(once=2), fill_the_disk)
    try:
        with pytest.raises(
            CheckpointError, match=r"cannot save a checkpoint to .*: File too large"
        ):
            fit(trainer, loader, [0.1, 0.2], Checkpoint())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(folder) == ["best.pt", "epoch=001-val_auroc=0.100000.pt", "last.pt"]
    for name in names(folder):
        assert load_checkpoint(folder / name)["states"]["trainer"]["iteration"] == 5


def test_a_folder_that_cannot_be_made_is_found_before_training(make_trainer, loader, tmp_path):
    (tmp_path / "file").write_text("")
    trainer = make_trainer()
    with pytest.raises(CheckpointError, match="cannot write checkpoints to"):
        fit(trainer, loader, [0.1], Checkpoint(folder=tmp_path / "file" / "inside"))
    assert trainer.state.iteration == 0


def test_a_state_that_cannot_be_saved_is_found_before_training(make_trainer, loader):
    class Odd:
        def state_dict(self):
            return {"seen": object()}

    trainer = make_trainer()
    trainer.register_state("odd", Odd())
    with pytest.raises(TypeError, match=r"states\.odd\.seen holds a builtins\.object"):
        fit(trainer, loader, [0.1], Checkpoint())
    assert trainer.state.iteration == 0


@pytest.mark.parametrize("value", [NAN, INF])
def test_broken_weights_are_never_saved(make_trainer, loader, folder, value):
    trainer = make_trainer()
    seen = notices(trainer)

    def break_it():
        with torch.no_grad():
            trainer.model.head.weight[0, 0] = value

    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=7), break_it)
    fit(trainer, loader, [0.1, 0.9], Checkpoint(every_steps=1))
    assert [n["iteration"] for n in seen if n["event"] == "checkpoint_saved"] == [*range(1, 7)]
    skipped = [n for n in seen if n["event"] == "checkpoint_skipped"]
    assert "head.weight holds NaN or infinite" in skipped[0]["message"]
    for name in names(folder):
        states = load_checkpoint(folder / name)["states"]
        assert all(torch.isfinite(weight).all() for weight in states["model"].values())
