from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from functools import partial
from multiprocessing.process import BaseProcess

import numpy as np
import pandas as pd
import pytest

from datasets.errors import UsageError
from experiments.config import load_config, write_yaml
from experiments.run_files import is_run
from experiments.runs import Experiment
from experiments.sweeps import run_sweep
from experiments.sweeps import study as study_module
from experiments.sweeps.search_space import Axis, SearchSpace
from experiments.sweeps.study import open_study
from experiments.sweeps.trials import Sweep, run_workers
from tests.experiments.conftest import small_settings
from tests.forked import ERR, OUT, start_forked

optuna = pytest.importorskip("optuna", reason="Optuna is an extra: pip install 'scanfire[sweep]'")
pytestmark = pytest.mark.slow
SPACE = """
optimizer.lr: {float: [1e-4, 1e-1], log: true}
model.params.dropout: {float: [0.0, 0.6], step: 0.1}
trainer.batch_size: [8, 16]
"""
# Enough for a process to be killed in the middle of a training.
LONG = [("trainer.max_epochs", "60"), ("checkpoint.save_top_k", "0")]


def send(process: BaseProcess, number: signal.Signals) -> None:
    """Send a signal to a process that runs."""
    assert process.pid is not None
    os.kill(process.pid, number)


@pytest.fixture
def search(cohort_dir, tmp_path):
    """Run a sweep of the small configuration."""
    settings = small_settings(cohort_dir, tmp_path / "runs")
    settings["trainer"]["max_epochs"] = 3
    (tmp_path / "small.yaml").write_text(write_yaml(settings))

    def run(count, *overrides, space=SPACE, **options):
        path = tmp_path / "space.yaml"
        path.write_text(space)
        return run_sweep(str(tmp_path / "small.yaml"), list(overrides), path, count, **options)

    return run


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "runs" / "small-sweep"


def trials_of(folder):
    storage = f"sqlite:///{folder / 'study.db'}"
    return open_study(storage, folder.name, "max", of_folds=False).get_trials()


def states_of(folder):
    return [trial.state.name for trial in trials_of(folder)]


def test_each_trial_is_a_run_and_the_best_is_a_configuration(search, folder, tmp_path, capsys):
    assert search(3) == 0
    trials = trials_of(folder)
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 3
    for trial in trials:
        run = folder / f"trial-{trial.number}"
        assert is_run(run)
        assert load_config(str(run / "config.yaml")).optimizer.lr == trial.params["optimizer.lr"]
        log = (run / "log.jsonl").read_text().splitlines()
        assert [json.loads(line)["epoch"] for line in log if '"event": "epoch"' in line] == [
            1,
            2,
            3,
        ]
    best = max(trials, key=lambda trial: trial.value)
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if line.startswith("trial ")]
    assert len(lines) == 3
    assert f"val/auroc {trials[0].value:.4f}" in lines[0]
    assert "3 trials finished: 3 completed, 0 pruned" in out
    assert f"next  scanfire run {folder / 'best.yaml'}" in out
    config = load_config(str(folder / "best.yaml"))
    assert config.exp_name == "small-best"
    assert config.optimizer.lr == best.params["optimizer.lr"]
    assert config.trainer.batch_size == best.params["trainer.batch_size"]
    results = Experiment(config).run()
    assert results["val"]["auroc"] == best.value
    assert (tmp_path / "runs" / "small-best" / "predictions.csv").is_file()


def test_the_page_has_optunas_figures_and_one_library(search, folder):
    search(4)
    text = (folder / "sweep.html").read_text()
    for name in ("history", "parallel", "importance"):
        assert f'id="figure-{name}"' in text
    assert text.count("plotly.js v") == 1
    assert "optimizer.lr" in text
    assert not re.search(r"<(script|link)[^>]+(src|href)=", text)


def test_the_test_set_changes_nothing(search, folder, cohort_dir, tmp_path):
    search(2)
    values = [trial.value for trial in trials_of(folder)]
    split = folder / "trial-0" / "splits.csv"
    other = tmp_path / "other" / cohort_dir.name
    shutil.copytree(cohort_dir, other)
    tested = pd.read_csv(split).query("split == 'test'")["sample_id"]
    samples = pd.read_csv(other / "samples.csv")
    rows = samples["sample_id"].isin(tested)
    flipped = samples.loc[rows, "label"].map({"case": "control", "control": "case"})
    samples.loc[rows, "label"] = flipped
    samples.to_csv(other / "samples.csv", index=False)
    scans = pd.read_csv(other / "scans.csv")["sample_id"].isin(tested).to_numpy()
    spectra = np.load(other / "spectra.npy")
    spectra[scans] = spectra[scans][:, ::-1]
    np.save(other / "spectra.npy", spectra)
    runs = tmp_path / "runs2"
    assert rows.sum() > 5
    data = [("data.root", str(other)), ("data.split.file", str(split)), ("runs_dir", str(runs))]
    search(2, *data)
    again = runs / "small-sweep"
    assert [trial.value for trial in trials_of(again)] == values
    for run in (*folder.glob("trial-*"), *again.glob("trial-*")):
        assert json.loads((run / "metrics.json").read_text())["test"] is None
        assert not list(run.glob("predictions*.csv"))


def test_the_same_call_continues_as_if_it_had_not_stopped(search, folder, tmp_path, capsys):
    search(2)
    search(4)
    assert "continued: 2 trials finished" in capsys.readouterr().out
    found = [(trial.params, trial.value) for trial in trials_of(folder)]
    search(4, ("runs_dir", str(tmp_path / "straight")))
    straight = trials_of(tmp_path / "straight" / "small-sweep")
    assert [(trial.params, trial.value) for trial in straight] == found
    search(4)  # nothing is left to do
    assert len(trials_of(folder)) == 4
    search(1, ("seed", "2"), ("exp_name", "other"))
    assert trials_of(folder.with_name("other-sweep"))[0].params != found[0][0]


@pytest.mark.parametrize(
    ("overrides", "space", "differs"),
    [
        ([], SPACE.replace("0.6", "0.5"), r"space\.model\.params\.dropout\.high"),
        ([("optimizer.weight_decay", "0.5")], SPACE, r"configuration\.optimizer\.weight_decay"),
        ([("seed", "9")], SPACE, r"configuration\.seed"),
        ([("checkpoint.monitor", "val/loss")], SPACE, r"figure"),
    ],
)
def test_another_search_in_the_same_study_is_refused(search, overrides, space, differs):
    search(1)
    with pytest.raises(UsageError, match=rf"is another search: .*{differs}.*--exp_name") as told:
        search(2, *overrides, space=space)
    assert "\n" not in str(told.value)


def test_trials_without_their_study_are_left_alone(search, folder):
    search(1)
    (folder / "study.db").unlink()
    with pytest.raises(UsageError, match=r"holds trials of a study that is not in study\.db any"):
        search(1)


def test_what_a_model_refuses_is_a_trial_without_a_figure(search, folder, capsys):
    space = "model.params.num_heads: [4, 5]\noptimizer.lr: {float: [1e-4, 1e-1], log: true}"
    assert search(4, space=space) == 0
    trials = trials_of(folder)
    refused = [trial for trial in trials if trial.params["model.params.num_heads"] == 5]
    assert 0 < len(refused) < 4
    assert [t.number for t in trials if t.state.name == "PRUNED"] == [t.number for t in refused]
    assert f"{len(refused)} refused" in capsys.readouterr().out
    with pytest.raises(UsageError, match=r"model\.params"):
        search(1, ("exp_name", "wrong"), space="model.params.num_heads: [5, 7]")


def test_a_parameter_that_the_model_lacks_is_told_before_the_first_trial(search, folder):
    with pytest.raises(UsageError, match=r"has no parameter 'dropuot'; did you mean 'dropout'"):
        search(1, space="model.params.dropuot: [0.1, 0.2]")
    assert not folder.exists()


def test_a_figure_of_the_training_set_is_refused(search):
    with pytest.raises(UsageError, match=r"checkpoint\.monitor: a search needs a figure of the"):
        search(1, ("checkpoint.monitor", "train/loss"))


def test_inner_folds_leave_the_test_set_out(search, folder):
    assert search(2, folds=3) == 0
    splits = [pd.read_csv(folder / f"fold{number}.csv") for number in range(3)]
    tested = [tuple(split.query("split == 'test'")["sample_id"]) for split in splits]
    assert tested[0] == tested[1] == tested[2]
    validated = pd.concat([split.query("split == 'val'")["sample_id"] for split in splits])
    assert sorted([*validated, *tested[0]]) == sorted(splits[0]["sample_id"])
    for trial in trials_of(folder):
        own = []
        for number in range(3):
            run = folder / f"trial-{trial.number}-fold{number}"
            assert (run / "splits.csv").read_bytes() == (folder / f"fold{number}.csv").read_bytes()
            own.append(json.loads((run / "metrics.json").read_text())["best"]["metrics"])
        assert trial.value == pytest.approx(np.mean([of["val/auroc"] for of in own]))
    assert "data.split" not in (folder / "best.yaml").read_text()
    assert load_config(str(folder / "best.yaml")).data.split.file is None


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


def has_epochs(run, count=3):
    log = run / "log.jsonl"
    return log.is_file() and log.read_text().count('"event": "epoch"') >= count


def test_a_killed_sweep_is_taken_up_where_it_was(search, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(study_module, "HEARTBEAT_S", 1)
    monkeypatch.setattr(study_module, "GRACE_S", 2)
    process = start_forked(tmp_path, search, 1, *LONG)
    wait_for(lambda: has_epochs(folder / "trial-0"))
    send(process, signal.SIGKILL)
    process.join()
    assert states_of(folder) == ["RUNNING"]
    time.sleep(3)
    assert search(1, *LONG) == 0
    first, again = trials_of(folder)
    assert (first.state.name, again.state.name) == ("FAIL", "COMPLETE")
    assert again.params == first.params
    # The epochs before the kill were not trained again, and the new trial knows them all.
    log = (folder / "trial-0" / "log.jsonl").read_text()
    assert '"event": "run_resumed"' in log
    assert list(again.intermediate_values) == list(range(1, 61))
    assert not (folder / "trial-1").exists()
    assert "1 was cut off and begun again" in capsys.readouterr().out


def test_a_signal_stops_in_good_order_and_the_same_call_continues(search, folder, tmp_path):
    process = start_forked(tmp_path, search, 2, *LONG)
    wait_for(lambda: has_epochs(folder / "trial-0"))
    send(process, signal.SIGTERM)
    process.join()
    assert process.exitcode == 128 + signal.SIGTERM
    out = (tmp_path / OUT).read_text()
    assert out.splitlines()[-1] == "to continue: the same command line"
    assert "Traceback" not in (tmp_path / ERR).read_text()
    assert states_of(folder) == ["FAIL", "WAITING"]
    assert search(2, *LONG) == 0
    assert states_of(folder) == ["FAIL", "COMPLETE", "COMPLETE"]


def test_a_killed_worker_is_replaced_and_its_trial_begun_again(search, folder, tmp_path):
    process = start_forked(tmp_path, partial(search, 4, ("trainer.max_epochs", "20"), jobs=2))
    wait_for(lambda: (folder / "study.db").is_file() and any_running(folder))
    worker = next(t for t in trials_of(folder) if t.state.name == "RUNNING").user_attrs["worker"]
    os.kill(int(worker.rpartition("-")[2]), signal.SIGKILL)
    process.join(200)
    out = (tmp_path / OUT).read_text()
    assert process.exitcode == 0, (tmp_path / ERR).read_text()
    assert "a worker was ended by signal 9: its trial is begun again" in out
    trials = trials_of(folder)
    states = [trial.state.name for trial in trials]
    assert states.count("COMPLETE") + states.count("PRUNED") == 4
    assert states.count("FAIL") == 1
    assert len(trials) == 5
    assert len({trial.user_attrs["worker"] for trial in trials}) == 3
    assert "4 trials finished" in out
    assert "1 was cut off and begun again" in out
    assert len([line for line in out.splitlines() if line.startswith("trial ")]) == 4


def any_running(folder):
    running = [trial for trial in trials_of(folder) if trial.state.name == "RUNNING"]
    return any(
        "worker" in t.user_attrs and has_epochs(folder / f"trial-{t.number}", 2) for t in running
    )


def test_workers_pass_on_a_signal(search, folder, tmp_path):
    process = start_forked(tmp_path, partial(search, 2, *LONG, jobs=2))
    wait_for(lambda: (folder / "study.db").is_file() and any_running(folder))
    send(process, signal.SIGTERM)
    process.join(100)
    assert process.exitcode == 128 + signal.SIGTERM
    assert "RUNNING" not in states_of(folder)
    assert "Traceback" not in (tmp_path / ERR).read_text()


def test_a_mistake_that_a_worker_meets_is_told_once(tmp_path):
    space = SearchSpace((Axis("optimizer.lr", "float", low=1e-4, high=1e-2),))
    where = f"sqlite:///{tmp_path}/absent/study.db"
    named = (tmp_path, "tft_baseline-sweep", "val/auroc", "max")
    sweep = Sweep("tft_baseline", [], [], space, 4, 2, where, *named)
    with pytest.raises(UsageError, match=r"--storage: .*unable to open database file"):
        run_workers(sweep)


def open_together(address):
    """What the test below does in several processes at once."""
    assert open_study(address, "shared", "max", of_folds=False).get_trials() == []
    return 0


def test_several_processes_may_make_one_study(tmp_path):
    address = f"sqlite:///{tmp_path / 'study.db'}"
    folders = [tmp_path / str(number) for number in range(4)]
    for folder in folders:
        folder.mkdir()
    processes = [start_forked(folder, open_together, address) for folder in folders]
    for process, folder in zip(processes, folders, strict=True):
        process.join(60)
        assert process.exitcode == 0, (folder / ERR).read_text()


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        (
            "sqlite:////absent/folder/study.db",
            "--storage: sqlite:////absent/folder/study.db cannot",
        ),
        ("postgresql://me:secret@127.0.0.1:1/x", "--storage: postgresql://me:...@127.0.0.1:1/x"),
        ("nonsense", "--storage: it cannot be used"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_line_without_its_password(
    search, folder, storage, message
):
    with pytest.raises(UsageError, match=re.escape(message).replace(r"\.\.\.", r"\*\*\*")) as told:
        search(1, storage=storage)
    assert "secret" not in str(told.value)
    assert "\n" not in str(told.value)
    assert not folder.exists()
