from __future__ import annotations

import importlib
import struct
import sys
import time

import pytest
import torch
from ignite.engine import Events

from engine import UsageError
from engine.checkpointing import load_checkpoint
from handlers.checkpoint import Checkpoint
from handlers.wandb_log import WandB


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """The real package, which may not ask the network for anything."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    return pytest.importorskip("wandb", reason="W&B is an extra: pip install wandb")


BLOCK, HEADER = 32768, 7
FULL, LAST = 1, 4


def chunks(data):
    """The records of a file in LevelDB's log format, which W&B writes."""
    position, record = HEADER, b""
    while position + HEADER <= len(data):
        if BLOCK - position % BLOCK < HEADER:  # no header fits any more: the block is filled up
            position += BLOCK - position % BLOCK
            continue
        size, kind = struct.unpack_from("<HB", data, position + 4)  # after a checksum
        record += data[position + HEADER : position + HEADER + size]
        position += HEADER + size
        if kind in (FULL, LAST):
            yield record
            record = b""


def records(folder):
    """What a folder's offline runs would send to W&B, in order of time."""
    internal = importlib.import_module("wandb.proto.wandb_internal_pb2")
    found = []
    files = folder.glob("wandb/offline-run-*/*.wandb")
    for path in sorted(files, key=lambda path: path.stat().st_mtime):
        until = time.monotonic() + 30
        while True:  # another process writes the file, and may still do so when a run has ended
            in_file = [internal.Record.FromString(chunk) for chunk in chunks(path.read_bytes())]
            if any(record.WhichOneof("record_type") == "exit" for record in in_file):
                break
            assert time.monotonic() < until, f"{path} lacks its end"
            time.sleep(0.05)
        found += in_file
    return found


def history(folder):
    rows = []
    for record in records(folder):
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            rows.append({i.key or i.nested_key[0]: i.value_json for i in items})
    return rows


def weights(trainer):
    return torch.cat([t.flatten().float() for t in trainer.model.state_dict().values()])


def test_each_epochs_metrics_and_the_runs_description_are_logged(offline, make_trainer, loader):
    trainer = make_trainer()
    trainer.attach(WandB(project="maldi", mode="offline", config={"data": {"label": "case"}}))
    trainer.fit(loader, 3)
    rows = history(trainer.run_dir)
    assert [row["_step"] for row in rows] == ["1", "2", "3"]
    assert float(rows[-1]["train/loss"]) == trainer.state.metrics["train/loss"]
    assert float(rows[-1]["lr"]) == 0.01
    (run,) = [r.run for r in records(trainer.run_dir) if r.WhichOneof("record_type") == "run"]
    config = {item.key: item.value_json for item in run.config.update}
    assert (run.project, run.display_name) == ("maldi", "run")
    assert config["model"] == '"TinyModel"'
    assert config["data"] == '{"label":"case"}'


def test_the_terminals_text_is_not_kept(offline, make_trainer, loader):
    trainer = make_trainer()
    trainer.attach(WandB(mode="offline"))
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: print("patient 7"))
    trainer.fit(loader, 1)
    assert records(trainer.run_dir)
    for path in trainer.run_dir.glob("wandb/offline-run-*/**/*"):
        assert path.is_dir() or b"patient 7" not in path.read_bytes()


def test_a_resumed_run_continues_the_same_wandb_run(offline, make_trainer, loader):
    for epochs in (1, 2):
        trainer = make_trainer()
        trainer.attach(Checkpoint(None, save_top_k=0, save_best=False), WandB(mode="offline"))
        last = trainer.run_dir / "checkpoints" / "last.pt"
        if last.exists():
            trainer.restore(load_checkpoint(last)["states"])
        trainer.fit(loader, epochs)
        time.sleep(1.1)  # W&B names its folders by the second
    runs = [r.run for r in records(trainer.run_dir) if r.WhichOneof("record_type") == "run"]
    assert len(runs) == 2
    assert len({run.run_id for run in runs}) == 1
    assert [row["_step"] for row in history(trainer.run_dir)] == ["1", "2"]


def test_training_is_the_same_with_it(offline, make_trainer, loader):
    plain, logged = make_trainer(), make_trainer()
    for trainer, handlers in ((plain, []), (logged, [WandB(mode="offline")])):
        trainer.attach(*handlers)
        torch.manual_seed(5)
        trainer.fit(loader, 2)
    assert torch.equal(weights(plain), weights(logged))


def test_a_run_that_fails_is_marked_so(offline, make_trainer, loader):
    trainer, wandb_log = make_trainer(), WandB(mode="offline")
    trainer.attach(wandb_log)
    trainer.loss = None
    with pytest.raises(TypeError):
        trainer.fit(loader, 1)
    wandb_log.close()
    exits = [r.exit for r in records(trainer.run_dir) if r.WhichOneof("record_type") == "exit"]
    assert [e.exit_code for e in exits] == [1]
    wandb_log.close()


def test_who_is_not_logged_in_is_told_before_training(offline, make_trainer, loader, monkeypatch):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    trainer = make_trainer()
    trainer.attach(WandB(mode="online"))
    with pytest.raises(UsageError, match=r"^wandb: .*(api|key|log)"):
        trainer.fit(loader, 1)
    assert trainer.state.iteration == 0


def test_without_the_package_its_install_command_is_named(make_trainer, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UsageError, match=r"pip install wandb$"):
        make_trainer().attach(WandB())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mode": "ofline"}, "did you mean 'offline'"),
        ({"tags": "first"}, "wandb.tags must be a list of names, not 'first'"),
    ],
)
def test_wrong_settings_are_refused(settings, words):
    with pytest.raises(UsageError, match=words):
        WandB(**settings)
