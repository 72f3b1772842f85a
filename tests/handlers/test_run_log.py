from __future__ import annotations

import json
import math
import resource
from datetime import datetime, timedelta

import pytest
from ignite.engine import Events

from engine import Phase, UsageError
from engine.reporting import read_log
from handlers import run_log
from handlers.run_log import RunLog

NAN = math.nan


@pytest.fixture
def run_dir(tmp_path):
    return tmp_path / "run"


def logged(make_trainer, loader, epochs=2, **settings):
    trainer, log = make_trainer(), RunLog(**settings)
    trainer.attach(log)
    trainer.fit(loader, epochs)
    return trainer, log


def events(log):
    return [row["event"] for row in read_log(log.path)]


def resumed(make_trainer, states, **settings):
    trainer, log = make_trainer(), RunLog(**settings)
    trainer.attach(log)
    trainer.restore(states)
    return trainer, log


def test_a_run_is_logged_from_start_to_end(make_trainer, loader, run_dir):
    _, log = logged(make_trainer, loader)
    assert log.path == run_dir / "log.jsonl"
    start, first, second, end = read_log(log.path)
    assert {key: start[key] for key in start if key != "time"} == {
        "event": "run_started",
        "epoch": 0,
        "iteration": 0,
        "optimizer_step": 0,
        "max_epochs": 2,
        "epoch_length": 5,
    }
    assert (first["epoch"], first["iteration"], first["optimizer_step"]) == (1, 5, 5)
    assert set(first["metrics"]) > {"train/loss", "train/auroc"}
    assert first["seconds"] >= 0
    assert second["epoch"] == 2
    assert (end["event"], end["iteration"]) == ("run_completed", 10)


def test_times_are_in_utc(make_trainer, loader):
    _, log = logged(make_trainer, loader, 1)
    time = datetime.fromisoformat(read_log(log.path)[0]["time"])
    assert time.utcoffset() == timedelta(0)
    assert abs((datetime.now(time.tzinfo) - time).total_seconds()) < 60


def test_notices_are_rows(make_trainer, loader):
    trainer, log = make_trainer(), RunLog()
    trainer.attach(log)
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED(once=1), lambda t: t.log_event("lr_reduced", lr=0.5)
    )
    trainer.fit(loader, 2)
    assert events(log) == ["run_started", "lr_reduced", "epoch", "epoch", "run_completed"]
    assert read_log(log.path)[1]["lr"] == 0.5


def test_each_line_is_there_before_training_goes_on(make_trainer, loader):
    trainer, log, seen = make_trainer(), RunLog(), []
    trainer.attach(log)
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED, lambda: seen.append(events(log)[-1]), phase=Phase.SAVE
    )
    trainer.fit(loader, 2)
    assert seen == ["epoch", "epoch"]


def test_values_unknown_to_json_are_written_readably(tmp_path):
    log = RunLog(tmp_path / "log.jsonl")
    log.write("x", nan=NAN, inf=-math.inf, nested={"a": (NAN, 1)}, path=tmp_path, ok=True)

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    row = json.loads((tmp_path / "log.jsonl").read_text(), parse_constant=refuse)
    assert (row["nan"], row["inf"], row["nested"]) == (None, "-inf", {"a": [None, 1]})
    assert (row["path"], row["ok"]) == (str(tmp_path), True)


def test_a_stopped_run_says_so(make_trainer, loader):
    trainer, log = make_trainer(), RunLog()
    trainer.attach(log)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=7), lambda: trainer.terminate())
    trainer.fit(loader, 3)
    last = read_log(log.path)[-1]
    assert (last["event"], last["epoch"], last["iteration"]) == ("run_terminated", 2, 7)


def test_a_run_whose_last_epoch_was_left_open_is_not_complete(make_trainer, loader):
    trainer, log = make_trainer(), RunLog()
    trainer.attach(log)
    cut = trainer.add_event_handler(
        Events.EPOCH_COMPLETED(once=2), lambda: trainer.leave_epoch_open()
    )
    trainer.fit(loader, 2)
    assert events(log) == ["run_started", "epoch", "run_terminated"]
    cut.remove()
    trainer.fit(loader, 2)
    assert events(log)[3:] == ["run_resumed", "epoch", "run_completed"]


def test_rows_may_be_added_before_and_after_training(make_trainer, loader, run_dir):
    trainer, log = make_trainer(), RunLog(monitor="train/auroc")
    trainer.attach(log)
    log.write("cohort_read", samples=20)
    trainer.fit(loader, 1)
    log.write("test_completed", metrics={"auroc": 0.8, "auprc": NAN})
    assert events(log) == ["cohort_read", "run_started", "epoch", "run_completed", "test_completed"]
    summary = json.loads((run_dir / "metrics.json").read_text())
    assert summary["test"] == {"metrics": {"auroc": 0.8, "auprc": None}}


def test_the_tables_stand_beside_the_log(make_trainer, loader, run_dir):
    logged(make_trainer, loader, 3, monitor="train/loss", mode="min")
    table = (run_dir / "metrics.csv").read_text().splitlines()
    assert table[0].startswith("epoch,iteration,optimizer_step,train/loss,")
    assert [line.split(",")[0] for line in table[1:]] == ["1", "2", "3"]
    summary = json.loads((run_dir / "metrics.json").read_text())
    losses = [float(line.split(",")[3]) for line in table[1:]]
    assert summary["best"]["metrics"]["train/loss"] == min(losses)
    assert summary["last"]["epoch"] == 3


def test_the_tables_are_renewed_while_the_run_goes_on(make_trainer, loader, run_dir, monkeypatch):
    monkeypatch.setattr(run_log, "LAG_S", 0.0)
    trainer, lines = make_trainer(), []
    trainer.attach(RunLog())
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED,
        lambda: lines.append(len((run_dir / "metrics.csv").read_text().splitlines())),
        phase=Phase.SAVE,
    )
    trainer.fit(loader, 3)
    assert lines == [2, 3, 4]


def test_equal_runs_give_equal_tables(make_trainer, loader, tmp_path):
    tables = []
    for name in "ab":
        (tmp_path / name).mkdir()
        logged(make_trainer, loader, 2, path=tmp_path / name / "log.jsonl", monitor="train/loss")
        tables.append([(tmp_path / name / f"metrics.{e}").read_text() for e in ("csv", "json")])
    assert tables[0][1] == tables[1][1]
    assert tables[0][0] == tables[1][0]


def test_lines_written_after_the_checkpoint_are_set_aside(make_trainer, loader, run_dir):
    trainer, log = make_trainer(), RunLog()
    trainer.attach(log)
    states = {}
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED(once=2), lambda: states.update(trainer.capture()), phase=Phase.SAVE
    )
    trainer.fit(loader, 3)
    log.write("test_completed", metrics={})
    again, log = resumed(make_trainer, states)
    log.write("resuming", checkpoint="last.pt")
    again.fit(loader, 4)
    assert events(log) == [
        *["run_started", "epoch", "epoch", "resuming", "run_resumed"],
        *["epoch", "epoch", "run_completed"],
    ]
    assert [row["epoch"] for row in read_log(log.path) if row["event"] == "epoch"] == [1, 2, 3, 4]
    discarded = read_log(run_dir / "log.discarded.jsonl")
    assert [row["event"] for row in discarded] == ["epoch", "run_completed", "test_completed"]
    table = (run_dir / "metrics.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in table[1:]] == ["1", "2", "3", "4"]
    assert json.loads((run_dir / "metrics.json").read_text())["test"] is None


def test_a_line_cut_off_in_writing_does_not_swallow_the_next(make_trainer, loader, run_dir):
    trainer, log = logged(make_trainer, loader, 2)
    states = trainer.capture()
    with open(log.path, "ab") as file:
        file.write(b'{"event": "epo')
    again, log = resumed(make_trainer, states)
    log.write("resuming")
    assert events(log)[-1] == "resuming"
    again.fit(loader, 3)
    assert events(log)[-3:] == ["run_resumed", "epoch", "run_completed"]
    assert "epo\n" not in log.path.read_text()


def test_a_run_that_begins_again_begins_its_log_again(make_trainer, loader, run_dir):
    """It was cut off before its first checkpoint."""
    first, log = make_trainer(), RunLog()
    first.attach(log)
    log.write("cohort_read")
    first.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        first.fit(loader, 2)
    second, log = make_trainer(), RunLog()
    second.attach(log)
    log.write("cohort_read")
    second.fit(loader, 1)
    assert events(log) == ["cohort_read", "run_started", "epoch", "run_completed"]
    discarded = read_log(run_dir / "log.discarded.jsonl")
    assert [row["event"] for row in discarded] == ["cohort_read", "run_started"]


def test_a_finished_run_that_is_resumed_keeps_its_log(make_trainer, loader, run_dir):
    trainer, log = logged(make_trainer, loader, 2)
    states = trainer.capture()
    log.write("test_completed", metrics={"auroc": 1.0})
    before = log.path.read_text()
    again, log = resumed(make_trainer, states)
    again.fit(loader, 2)
    assert log.path.read_text().startswith(before)
    assert events(log)[-1] == "nothing_to_train"
    assert events(log).count("run_completed") == 1
    assert json.loads((run_dir / "metrics.json").read_text())["test"] is not None


def test_an_end_that_could_not_be_written_is_made_up_for(make_trainer, loader):
    trainer, log = logged(make_trainer, loader, 2)
    states = trainer.capture()
    lines = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(b"".join(lines[:-1]))
    states["run_log"]["position"] -= len(lines[-1])
    again, log = resumed(make_trainer, states)
    again.fit(loader, 2)
    assert events(log)[-2:] == ["nothing_to_train", "run_completed"]


def test_what_follows_the_end_of_a_finished_run_is_written_once(make_trainer, loader):
    trainer, log = logged(make_trainer, loader, 2)
    states = trainer.capture()
    log.write_once("test_completed", metrics={"auroc": 1.0})
    again, log = resumed(make_trainer, states)
    again.fit(loader, 2)
    log.write_once("test_completed", metrics={"auroc": 1.0})
    assert events(log).count("test_completed") == 1
    log.write_once("test_completed", metrics={"auroc": 0.5})
    assert events(log).count("test_completed") == 2
    log.write_once("run_finished")
    again.fit(loader, 3)
    log.write_once("run_finished")  # of another end
    assert events(log)[-2:] == ["run_completed", "run_finished"]


def test_a_log_that_lost_lines_says_so_and_goes_on(make_trainer, loader):
    trainer, log = logged(make_trainer, loader, 2)
    states = trainer.capture()
    log.path.unlink()
    again, log = resumed(make_trainer, states)
    again.fit(loader, 3)
    assert events(log) == ["notice", "run_resumed", "epoch", "run_completed"]
    assert "bytes that it had when the checkpoint was saved" in read_log(log.path)[0]["message"]


def test_a_roll_back_within_a_run_stays_visible(make_trainer, loader):
    trainer, log = make_trainer(), RunLog()
    trainer.attach(log)
    states = {}
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED(once=1), lambda: states.update(trainer.capture()), phase=Phase.SAVE
    )
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED(once=2),
        lambda: log.load_state_dict(states["run_log"]),
        phase=Phase.SAVE,
    )
    trainer.fit(loader, 3)
    trainer.fit(loader, 4)
    assert [row["epoch"] for row in read_log(log.path) if row["event"] == "epoch"] == [1, 2, 3, 4]


def test_training_on_with_the_same_trainer_takes_nothing_out(make_trainer, loader):
    trainer, log = logged(make_trainer, loader, 1)
    trainer.fit(loader, 2)
    assert events(log) == [
        *["run_started", "epoch", "run_completed"],
        *["run_resumed", "epoch", "run_completed"],
    ]


def test_a_full_disk_is_one_line(tmp_path):
    log = RunLog(tmp_path / "log.jsonl")
    log.write("a")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, limits[1]))
    try:
        with pytest.raises(UsageError, match=r"cannot write the log .*: File too large"):
            log.write("b", text="x" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_without_a_folder_there_is_no_log(make_trainer):
    trainer = make_trainer()
    trainer.run_dir = None
    with pytest.raises(UsageError, match=r"run_log\.path: name one"):
        trainer.attach(RunLog())
    with pytest.raises(UsageError, match=r"run_log\.path"):
        RunLog().write("a")


def test_a_monitor_that_nothing_produces_is_refused(make_trainer, loader):
    with pytest.raises(UsageError, match=r"run_log\.monitor.*did you mean 'train/loss'"):
        logged(make_trainer, loader, monitor="train/los")
