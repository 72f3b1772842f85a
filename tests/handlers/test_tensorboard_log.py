from __future__ import annotations

import importlib.util

import pytest
from ignite.engine import Events

import handlers.tensorboard_log
from engine import Phase, UsageError
from handlers.tensorboard_log import TensorBoard
from handlers.validation import Validation
from tests.tiny_problem import TinyLoader


def read(folder):
    """All scalars of a folder as TensorBoard shows them: name -> [(step, value)]."""
    from tensorboard.backend.event_processing import event_accumulator  # type: ignore[import-untyped]

    events = event_accumulator.EventAccumulator(str(folder))
    events.Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def test_an_epochs_metrics_are_scalars_over_the_epochs(make_trainer, make_evaluator, loader):
    trainer, rows = make_trainer(lr=0.02), []
    TensorBoard().attach(trainer)
    Validation(make_evaluator(trainer), TinyLoader(seed=1)).attach(trainer)
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED, lambda: rows.append(dict(trainer.state.metrics))
    )
    trainer.fit(loader, 3)
    scalars = read(trainer.run_dir / "events")
    assert scalars.keys() == {*rows[0], "lr"}
    for name in ("train/loss", "val/auroc"):
        assert scalars[name] == [
            (epoch, pytest.approx(row[name])) for epoch, row in enumerate(rows, start=1)
        ]
    assert scalars["lr"] == [(epoch, pytest.approx(0.02)) for epoch in (1, 2, 3)]


def test_an_undefined_metric_leaves_a_gap(make_trainer, loader):
    trainer = make_trainer()
    TensorBoard().attach(trainer)

    @trainer.on(Events.EPOCH_COMPLETED(once=2))
    def undefined(trainer):
        trainer.state.metrics["train/auroc"] = float("nan")

    trainer.fit(loader, 3)
    scalars = read(trainer.run_dir / "events")
    assert [step for step, _ in scalars["train/auroc"]] == [1, 3]


def test_no_step_stands_twice_after_a_resume(make_trainer, loader):
    trainer, states = make_trainer(), {}
    TensorBoard().attach(trainer)
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED(once=2), lambda: states.update(trainer.capture()), phase=Phase.SAVE
    )
    trainer.fit(loader, 4)  # epochs 3 and 4 come again
    continued = make_trainer(lr=0.05)
    TensorBoard().attach(continued)
    continued.restore(states)
    continued.fit(loader, 5)
    scalars = read(trainer.run_dir / "events")
    assert [step for step, _ in scalars["train/loss"]] == [1, 2, 3, 4, 5]
    assert scalars["train/loss"][-1][1] == pytest.approx(continued.state.metrics["train/loss"])


def test_no_step_stands_twice_after_going_back_within_a_run(make_trainer, loader):
    trainer, states = make_trainer(), {}
    TensorBoard().attach(trainer)
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED(once=1), lambda: states.update(trainer.capture()), phase=Phase.SAVE
    )
    trainer.fit(loader, 3)
    trainer.restore(states)
    trainer.fit(loader, 3)
    scalars = read(trainer.run_dir / "events")
    assert [step for step, _ in scalars["train/loss"]] == [1, 2, 3]


def test_files_of_one_second_are_read_in_their_order(make_trainer, loader):
    for lr in [0.01 * n for n in range(1, 4)]:  # each run writes epoch 1 anew
        trainer = make_trainer(lr=lr)
        TensorBoard().attach(trainer)
        trainer.fit(loader, 1)
    seconds = [each.name.split(".")[3] for each in (trainer.run_dir / "events").iterdir()]
    assert len(set(seconds)) == len(seconds) == 3
    assert read(trainer.run_dir / "events")["lr"] == [(1, pytest.approx(0.03))]


def test_what_was_written_stands_when_training_fails(make_trainer, loader):
    trainer = make_trainer()
    board = TensorBoard()
    board.attach(trainer)

    @trainer.on(Events.EPOCH_STARTED(once=3))
    def fail(trainer):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        trainer.fit(loader, 5)
    assert [step for step, _ in read(trainer.run_dir / "events")["train/loss"]] == [1, 2]
    board.close()
    board.close()  # as often as one likes


def test_the_file_is_let_go_of_when_the_run_ends(make_trainer, loader):
    trainer, board = make_trainer(), TensorBoard()
    board.attach(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED(once=1), lambda: trainer.terminate())
    trainer.fit(loader, 3)
    assert board._epochs._writer is None


def test_a_folder_can_be_named(make_trainer, loader, tmp_path):
    trainer = make_trainer()
    TensorBoard(str(tmp_path / "elsewhere")).attach(trainer)
    trainer.fit(loader, 1)
    assert read(tmp_path / "elsewhere")


def test_nothing_is_written_before_an_epoch_is_over(make_trainer):
    trainer = make_trainer()
    TensorBoard().attach(trainer)
    assert not (trainer.run_dir / "events").exists()


def test_without_any_folder_it_refuses(make_trainer):
    trainer = make_trainer()
    trainer.run_dir = None
    with pytest.raises(UsageError, match=r"tensorboard.folder"):
        TensorBoard().attach(trainer)


def test_without_the_package_it_says_what_to_install(make_trainer, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install tensorboard"):
        TensorBoard().attach(make_trainer())


def test_the_package_is_imported_only_to_write():
    assert "SummaryWriter" not in vars(handlers.tensorboard_log)
