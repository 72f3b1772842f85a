from __future__ import annotations

import math
import re
import resource
from pathlib import Path

import pytest
import torch
from ignite.engine import Events

from engine import Phase, TrainEvents, UsageError
from engine.checkpointing import CheckpointError, load_checkpoint
from handlers.checkpoint import Checkpoint

NAN, INF = math.nan, math.inf


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run" / "checkpoints"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def with_scores(trainer, scores):
    """Have each epoch measure the next of the scores as val/auroc; None is not measured."""
    trainer.provide_metrics("val/auroc")

    def measure(trainer):
        score = scores[trainer.state.epoch - 1]
        trainer.state.metrics.pop("val/auroc", None)
        if score is not None:
            trainer.state.metrics["val/auroc"] = score

    trainer.add_event_handler(Events.EPOCH_COMPLETED, measure, phase=Phase.MEASURE)
    return trainer


def notices(trainer):
    seen = []
    trainer.add_event_handler(TrainEvents.LOG_EVENT, lambda t: seen.append(dict(t.state.notice)))
    return seen


def fit(trainer, loader, scores, checkpoint):
    trainer.attach(checkpoint)
    with_scores(trainer, scores).fit(loader, len(scores))
    return checkpoint


# -- which files ----------------------------------------------------------------------------


def test_periodic_ones_are_kept_for_good_whatever_their_score(make_trainer, loader, folder):
    scores = [0.9, 0.1, 0.8, NAN, 0.7, None, 0.6]
    checkpoint = Checkpoint(save_top_k=1, keep_every_epochs=2)
    fit(make_trainer(), loader, scores, checkpoint)
    periodic = [name for name in names(folder) if name.startswith("periodic")]
    assert periodic == [f"periodic-epoch=00{epoch}.pt" for epoch in (2, 4, 6)]
    for epoch, name in zip((2, 4, 6), periodic, strict=True):
        assert load_checkpoint(folder / name)["states"]["trainer"]["iteration"] == 5 * epoch
    assert names(folder) == ["best.pt", "epoch=001-val_auroc=0.900000.pt", "last.pt", *periodic]


def test_periodic_ones_stand_between_the_epochs_that_are_ranked(make_trainer, loader, folder):
    checkpoint = Checkpoint(every_epochs=3, keep_every_epochs=2)
    fit(make_trainer(), loader, [0.1, 0.9, 0.2, 0.8], checkpoint)
    ranked = [name for name in names(folder) if name.startswith("epoch=")]
    assert ranked == ["epoch=003-val_auroc=0.200000.pt", "epoch=004-val_auroc=0.800000.pt"]
    assert (folder / "periodic-epoch=002.pt").exists()


def test_last_best_and_the_top_k_stand_after_training(make_trainer, loader, folder):
    fit(make_trainer(), loader, [0.1, 0.5, 0.3, 0.4, 0.2], Checkpoint(save_top_k=3))
    assert names(folder) == [
        "best.pt",
        "epoch=002-val_auroc=0.500000.pt",
        "epoch=003-val_auroc=0.300000.pt",
        "epoch=004-val_auroc=0.400000.pt",
        "last.pt",
    ]
    assert load_checkpoint(folder / "last.pt")["states"]["trainer"]["iteration"] == 25


def test_best_holds_what_the_first_of_the_top_k_holds(make_trainer, loader, folder):
    fit(make_trainer(), loader, [0.1, 0.5, 0.3], Checkpoint())
    best = (folder / "best.pt").read_bytes()
    assert best == (folder / "epoch=002-val_auroc=0.500000.pt").read_bytes()
    assert load_checkpoint(folder / "best.pt")["states"]["trainer"]["iteration"] == 10


def test_where_less_is_better_the_lowest_are_kept(make_trainer, loader, folder):
    fit(make_trainer(), loader, [0.3, 0.1, 0.2], Checkpoint(mode="min", save_top_k=2))
    assert [n[:9] for n in names(folder)] == ["best.pt", "epoch=002", "epoch=003", "last.pt"]
    assert load_checkpoint(folder / "best.pt")["states"]["trainer"]["iteration"] == 10


def test_of_equal_scores_the_earlier_wins(make_trainer, loader, folder):
    fit(make_trainer(), loader, [0.5, 0.5, 0.4, 0.5], Checkpoint(save_top_k=2))
    assert [n[:9] for n in names(folder)] == ["best.pt", "epoch=001", "epoch=002", "last.pt"]
    assert load_checkpoint(folder / "best.pt")["states"]["trainer"]["iteration"] == 5


def test_near_ties_have_files_of_their_own(make_trainer, loader, folder):
    fit(make_trainer(), loader, [0.5, 0.5 + 1e-12, 0.5 + 2e-12], Checkpoint(save_top_k=3))
    assert len(names(folder)) == 5
    assert load_checkpoint(folder / "best.pt")["states"]["trainer"]["iteration"] == 15


def test_a_nan_is_never_best_and_blocks_nothing(make_trainer, loader, folder):
    fit(make_trainer(), loader, [NAN, 0.1, NAN, 0.2], Checkpoint(save_top_k=3))
    assert [n[:9] for n in names(folder)] == ["best.pt", "epoch=002", "epoch=004", "last.pt"]


def test_infinite_scores_compare_as_numbers(make_trainer, loader, folder):
    fit(make_trainer(), loader, [-INF, 0.1, INF, 0.3], Checkpoint(save_top_k=4))
    assert "epoch=001-val_auroc=-inf.pt" in names(folder)
    assert load_checkpoint(folder / "best.pt")["states"]["trainer"]["iteration"] == 15


def test_an_epoch_without_the_metric_only_renews_last(make_trainer, loader, folder):
    fit(make_trainer(), loader, [0.1, None], Checkpoint())
    assert [n[:9] for n in names(folder)] == ["best.pt", "epoch=001", "last.pt"]
    assert load_checkpoint(folder / "last.pt")["states"]["trainer"]["iteration"] == 10


def test_each_kind_of_file_can_be_turned_off(make_trainer, loader, folder):
    fit(
        make_trainer(),
        loader,
        [0.1, 0.2],
        Checkpoint(monitor=None, save_top_k=0, save_best=False),
    )
    assert names(folder) == ["last.pt"]
    other = folder.parent / "other"
    checkpoint = Checkpoint(save_top_k=0, save_last=False, folder=str(other))
    fit(make_trainer(), loader, [0.2, 0.1], checkpoint)
    assert names(other) == ["best.pt"]


def test_epochs_between_are_left_out_but_never_the_last(make_trainer, loader, folder):
    trainer = make_trainer()
    seen = notices(trainer)
    fit(trainer, loader, [0.9, 0.1, 0.8, 0.2, 0.3], Checkpoint(every_epochs=2, save_top_k=9))
    assert [n["epoch"] for n in seen if n["event"] == "checkpoint_saved"] == [2, 4, 5]


def test_last_is_renewed_within_an_epoch(make_trainer, loader, folder):
    trainer = make_trainer()
    seen = notices(trainer)
    fit(trainer, loader, [0.1, 0.2], Checkpoint(every_steps=2))
    assert [(n["iteration"], n["files"][-1]) for n in seen] == [
        (2, "last.pt"),
        (4, "last.pt"),
        (5, "last.pt"),
        (7, "last.pt"),
        (9, "last.pt"),
        (10, "last.pt"),
    ]


def test_nothing_is_saved_within_an_accumulation_window(make_trainer, loader, folder):
    trainer = make_trainer()

    def window(trainer):
        trainer.state.sync_gradients = trainer.state.iteration in (3, 5)

    trainer.add_event_handler(Events.ITERATION_STARTED, window)
    seen = notices(trainer)
    fit(trainer, loader, [0.1], Checkpoint(every_steps=1))
    assert [n["iteration"] for n in seen] == [3, 5]


def test_a_run_told_to_stop_within_an_epoch_saves_where_it_stands(make_trainer, loader, folder):
    trainer = make_trainer()
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=7), lambda: trainer.terminate())
    fit(trainer, loader, [0.1, 0.2], Checkpoint())
    assert load_checkpoint(folder / "last.pt")["states"]["trainer"]["iteration"] == 7


def test_nothing_is_saved_twice(make_trainer, loader, folder):
    trainer = make_trainer()
    seen = notices(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED(once=2), lambda: trainer.terminate())
    fit(trainer, loader, [0.1, 0.2, 0.3], Checkpoint())
    assert [n["iteration"] for n in seen if n["event"] == "checkpoint_saved"] == [5, 10]


# -- settings -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"save_top_k": -1}, "checkpoint.save_top_k: a whole number at least 0"),
        ({"every_epochs": 0}, "checkpoint.every_epochs: a whole number"),
        ({"every_steps": 1.5}, "checkpoint.every_steps: a whole number"),
        ({"keep_every_epochs": 0}, "checkpoint.keep_every_epochs: a whole number"),
        ({"every_steps": 5, "save_last": False}, "set save_last to true"),
        ({"mode": "maxx"}, "did you mean 'max'"),
        ({"monitor": None}, "checkpoint.monitor is needed"),
    ],
)
def test_a_wrong_setting_is_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        Checkpoint(**settings)


def test_a_monitor_that_nothing_produces_is_refused(make_trainer, loader):
    trainer = make_trainer()
    trainer.attach(Checkpoint(monitor="train/aurok", mode="max"))
    with pytest.raises(UsageError, match=r"checkpoint\.monitor.*did you mean 'train/auroc'"):
        trainer.fit(loader, 1)


def test_without_a_folder_there_is_no_checkpoint(make_trainer):
    trainer = make_trainer()
    trainer.run_dir = None
    with pytest.raises(UsageError, match=r"checkpoint\.folder: name one"):
        trainer.attach(Checkpoint())


def test_meta_is_saved_along(make_trainer, loader, folder):
    fit(make_trainer(), loader, [0.1], Checkpoint(meta={"split": "abc"}))
    assert load_checkpoint(folder / "last.pt")["meta"] == {"split": "abc"}


# -- resuming -------------------------------------------------------------------------------


def test_the_index_of_the_best_continues(make_trainer, loader, folder):
    fit(make_trainer(), loader, [0.5, 0.9, 0.1], Checkpoint(save_top_k=2))
    resumed = make_trainer()
    resumed.attach(Checkpoint(save_top_k=2))
    with_scores(resumed, [None, None, None, 0.6, 0.7])
    resumed.restore(load_checkpoint(folder / "last.pt")["states"])
    resumed.fit(loader, 5)
    assert [n[:9] for n in names(folder)] == ["best.pt", "epoch=002", "epoch=005", "last.pt"]
    assert load_checkpoint(folder / "best.pt")["states"]["trainer"]["iteration"] == 10


def test_each_file_lists_itself(make_trainer, loader, folder):
    fit(make_trainer(), loader, [0.5, 0.9], Checkpoint())
    for name in ("epoch=002-val_auroc=0.900000.pt", "best.pt", "last.pt"):
        index = load_checkpoint(folder / name)["states"]["checkpoint"]["top"]
        assert [entry[0] for entry in index] == [
            "epoch=002-val_auroc=0.900000.pt",
            "epoch=001-val_auroc=0.500000.pt",
        ]


def test_a_listed_file_that_is_gone_is_said_and_forgotten(make_trainer, loader, folder):
    fit(make_trainer(), loader, [0.5, 0.9], Checkpoint(save_top_k=2))
    (folder / "epoch=002-val_auroc=0.900000.pt").unlink()
    resumed = make_trainer()
    seen = notices(resumed)
    resumed.attach(Checkpoint(save_top_k=2))
    resumed.restore(load_checkpoint(folder / "last.pt")["states"])
    with_scores(resumed, [None, None, 0.1]).fit(loader, 3)
    assert seen[0] == {
        "event": "checkpoint_missing",
        "files": ["epoch=002-val_auroc=0.900000.pt"],
    }
    assert [n[:9] for n in names(folder)] == ["best.pt", "epoch=001", "epoch=003", "last.pt"]
    assert load_checkpoint(folder / "best.pt")["states"]["trainer"]["iteration"] == 10


def test_a_half_written_file_of_a_cut_run_is_cleared_away(make_trainer, loader, folder):
    folder.mkdir(parents=True)
    (folder / ".last.pt.part").write_bytes(b"half")
    fit(make_trainer(), loader, [0.5], Checkpoint())
    assert ".last.pt.part" not in names(folder)


@pytest.mark.parametrize("unit", [1e-9, 1e-4, 1.0, 1e9])
def test_the_score_in_a_file_s_name_keeps_its_digits(unit):
    name = Checkpoint(monitor="val/mae", mode="min").file_name(3, 1.2345 * unit)
    told = re.fullmatch(r"epoch=003-val_mae=(.+)\.pt", name)
    assert told
    assert float(told[1]) == pytest.approx(1.2345 * unit, rel=1e-5)


def test_equal_scores_are_decided_by_the_validation_loss() -> None:
    checkpoint = Checkpoint("val/auroc", save_top_k=0)
    assert checkpoint._rank(0.9, 1, 0.5) == ["best.pt"]
    assert checkpoint._rank(0.9, 2, 0.6) == []
    assert checkpoint._rank(0.9, 3, 0.4) == ["best.pt"]
    assert checkpoint._rank(0.8, 4, 0.1) == []
    # Where the loss is not measured, the earlier stays.
    assert checkpoint._rank(0.9, 5, None) == []


def test_the_monitor_last_ranks_by_the_number_of_the_epoch() -> None:
    checkpoint = Checkpoint("last", save_top_k=1)
    assert [checkpoint._rank(float(n), n, None)[-1] for n in (1, 2, 3)] == ["best.pt"] * 3


# -- whatever happens while a checkpoint is saved -----------------------------------------------


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


def test_a_file_is_named_by_epoch_and_score():
    named = Checkpoint(monitor="val/loss", mode="min").file_name(4, 0.25)
    assert named == "epoch=004-val_loss=0.250000.pt"
