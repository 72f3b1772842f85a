from __future__ import annotations

import io
import re
import sys

import pytest
from ignite.engine import Events

import handlers.progress
from engine import TrainEvents, UsageError
from handlers.early_stopping import EarlyStopping
from handlers.lr_schedule import LRSchedule
from handlers.progress import Progress, _duration
from handlers.validation import Validation
from tests.tiny_problem import TinyLoader


class Terminal(io.StringIO):
    def isatty(self):
        return True


def watch(monkeypatch, redraw_seconds=0.0):
    """A person at a terminal; to be called within the test, as pytest sets its own stdout."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(handlers.progress, "REDRAW_SECONDS", redraw_seconds)
    return screen


def test_an_epoch_is_one_line_that_a_person_can_read(make_trainer, make_evaluator, loader, capsys):
    trainer = make_trainer(lr=0.01)
    Progress().attach(trainer)
    Validation(make_evaluator(trainer), TinyLoader(seed=1)).attach(trainer)
    trainer.monitor_metric("val/auroc", "early_stopping")
    trainer.fit(loader, 10)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    number = r"\d\.\d{3}"
    assert re.fullmatch(
        rf"epoch  3/10  train loss {number}  val loss {number}  val auroc {number}"
        r"  lr 1\.0e-02  \d+\.\d s",
        lines[2],
    )
    assert f"val auroc {trainer.state.metrics['val/auroc']:.3f}" in lines[-1]


def test_chosen_metrics_are_printed_where_they_were_measured(
    make_trainer, make_evaluator, loader, capsys
):
    trainer = make_trainer()
    Progress(metrics=["train/accuracy", "val/f1"]).attach(trainer)
    Validation(make_evaluator(trainer), TinyLoader(seed=1), every=2).attach(trainer)
    trainer.fit(loader, 2)
    first, second = capsys.readouterr().out.splitlines()
    assert "train accuracy" in first
    assert "val f1" not in first
    assert "val f1" in second
    assert "loss" not in second


def test_a_metric_that_nothing_produces_is_refused(make_trainer, loader):
    trainer = make_trainer()
    Progress(metrics=["train/acuracy"]).attach(trainer)
    with pytest.raises(UsageError, match=r"progress.*did you mean 'train/accuracy'"):
        trainer.fit(loader, 1)


def test_an_undefined_metric_is_called_so(make_trainer, loader, capsys):
    trainer = make_trainer()
    Progress(metrics=["train/auroc"]).attach(trainer)

    @trainer.on(Events.EPOCH_COMPLETED)
    def undefined(trainer):
        trainer.state.metrics["train/auroc"] = float("nan")

    trainer.fit(loader, 1)
    assert "train auroc undefined" in capsys.readouterr().out


def test_every_so_many_epochs_and_the_last(make_trainer, loader, capsys):
    trainer = make_trainer()
    Progress(every=2).attach(trainer)
    trainer.fit(loader, 5)
    starts = [line[:9] for line in capsys.readouterr().out.splitlines()]
    assert starts == ["epoch 2/5", "epoch 4/5", "epoch 5/5"]


def test_the_learning_rate_is_the_one_the_schedule_reports(make_trainer, loader, capsys):
    trainer = make_trainer(lr=0.01)
    Progress().attach(trainer)

    @trainer.on(Events.EPOCH_COMPLETED)
    def schedule(trainer):
        trainer.state.metrics["lr"] = 2.5e-4

    trainer.fit(loader, 1)
    assert "lr 2.5e-04" in capsys.readouterr().out


def test_what_happens_beside_the_epochs_is_said(make_trainer, capsys):
    trainer = make_trainer()
    Progress().attach(trainer)
    trainer.log_event("early_stopped", epoch=12, monitor="val/auroc", best=0.87654)
    trainer.log_event("notice", message="fp16 needs a GPU")
    trainer.log_event("resumed")
    trainer.log_event("checkpoint_saved", file="last.pt")
    assert capsys.readouterr().out.splitlines() == [
        "early stopped: epoch 12, monitor val/auroc, best 0.8765",
        "fp16 needs a GPU",
        "resumed",
    ]


@pytest.mark.parametrize("every", [1, 3])
def test_what_an_epochs_end_decides_stands_after_its_line(make_trainer, loader, capsys, every):
    trainer = make_trainer()
    stopping = EarlyStopping("train/loss", "min", patience=2, min_delta=10.0)
    plateau = LRSchedule("plateau", monitor="train/loss", patience=0, threshold=0.99)
    trainer.attach(stopping, plateau, Progress(every=every))
    trainer.fit(loader, 9)
    lines = [line.split(":")[0].split("  ")[0] for line in capsys.readouterr().out.splitlines()]
    first = ["epoch 1/9", "epoch 2/9", "lr reduced"] if every == 1 else ["lr reduced"]
    assert lines == [*first, "epoch 3/9", "early stopped", "lr reduced"]


def test_why_a_run_ended_is_printed_when_its_epoch_stays_open(make_trainer, loader, capsys):
    trainer = make_trainer()
    trainer.attach(Progress())

    @trainer.on(Events.EPOCH_COMPLETED)
    def cut(trainer):
        trainer.log_event("interrupted", message="told to stop in its validation")
        trainer.leave_epoch_open()

    trainer.fit(loader, 2)
    assert capsys.readouterr().out == "told to stop in its validation\n"


@pytest.mark.parametrize("broken", [None, "closed", "full"])
def test_a_lost_terminal_does_not_end_the_training(make_trainer, loader, monkeypatch, broken):
    screen = open("/dev/full", "w") if broken else None  # noqa: SIM115  every flush of it fails
    if screen and broken == "closed":
        screen.close()
    monkeypatch.setattr(sys, "stdout", screen)
    trainer = make_trainer()
    trainer.attach(Progress())
    trainer.fit(loader, 2)
    assert trainer.state.epoch == 2


def test_which_notices_are_quiet_can_be_chosen(make_trainer, capsys):
    trainer = make_trainer()
    Progress(quiet=["resumed"]).attach(trainer)
    trainer.log_event("resumed")
    trainer.log_event("checkpoint_saved", files=["last.pt"])
    assert capsys.readouterr().out == "checkpoint saved: files ['last.pt']\n"


def test_where_nobody_watches_nothing_is_done_in_a_step(make_trainer):
    trainer = make_trainer()
    before = len(trainer._event_handlers[Events.ITERATION_COMPLETED])
    Progress().attach(trainer)
    assert len(trainer._event_handlers[Events.ITERATION_COMPLETED]) == before
    for event in TrainEvents:
        assert event is TrainEvents.LOG_EVENT or not trainer._event_handlers.get(event)


def test_plain_output_has_no_control_characters(make_trainer, loader, capsys):
    trainer = make_trainer()
    Progress().attach(trainer)
    trainer.fit(loader, 2)
    assert capsys.readouterr().out.replace("\n", "").isprintable()


def test_on_a_terminal_the_running_epoch_counts_its_batches(make_trainer, loader, monkeypatch):
    terminal = watch(monkeypatch)
    trainer = make_trainer()
    Progress().attach(trainer)
    trainer.fit(loader, 2)
    drawn = terminal.getvalue()
    assert "\r\x1b[Kepoch 2/2  3/5 batches" in drawn
    # The running line is wiped before the epoch's own line is printed.
    assert re.search(r"5/5 batches  \d+\.\d s\r\x1b\[Kepoch 2/2  train loss [^\n]*\n$", drawn)


def test_on_a_terminal_it_is_not_drawn_at_each_step(make_trainer, monkeypatch):
    terminal = watch(monkeypatch, redraw_seconds=3600.0)
    trainer = make_trainer()
    Progress().attach(trainer)
    trainer.fit(TinyLoader(samples=80), 1)
    assert "batches" not in terminal.getvalue()


def test_a_run_that_fails_leaves_a_clean_line(make_trainer, loader, monkeypatch):
    terminal = watch(monkeypatch)
    trainer, progress = make_trainer(), Progress()
    progress.attach(trainer)

    @trainer.on(TrainEvents.BATCH_READY(once=3))
    def fail(trainer):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        trainer.fit(loader, 1)
    progress.close()
    assert terminal.getvalue().endswith("\r\x1b[K")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every": 0}, "progress.every: a whole number"),
        ({"every": "epoch"}, "progress.every: a whole number"),
        ({"metrics": "val/auroc"}, "progress.metrics must be a list of names"),
        ({"quiet": "resumed"}, "progress.quiet must be a list of names"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        Progress(**settings)


@pytest.mark.parametrize("unit", [1e-9, 1e-4, 30.0, 1e9])
def test_a_metric_keeps_its_digits_in_any_unit(make_trainer, loader, capsys, unit):
    trainer = make_trainer()

    @trainer.on(Events.EPOCH_COMPLETED)
    def measure(trainer):
        trainer.state.metrics["train/auroc"] = 1.2345 * unit

    Progress(metrics=["train/auroc"]).attach(trainer)
    trainer.fit(loader, 1)
    told = re.search(r"train auroc (\S+)", capsys.readouterr().out)
    assert told
    assert float(told[1]) == pytest.approx(1.2345 * unit, rel=1e-2)


def test_a_duration_is_written_in_two_units():
    assert [_duration(s) for s in (4.12, 75.0, 3720.0)] == ["4.1 s", "1 min 15 s", "1 h 02 min"]
