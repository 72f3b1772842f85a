from __future__ import annotations

import importlib
import sys

import pytest
import torch

from engine import TrainEvents, UsageError
from engine.checkpointing import load_checkpoint
from handlers.checkpoint import Checkpoint
from handlers.mlflow_log import MLflow, _parts


class Store:
    """The real package's client, and an experiment for one test."""

    def __init__(self, mlflow, uri, experiment):
        self.client, self.uri, self.experiment = mlflow.MlflowClient(uri), uri, experiment

    def handler(self, **settings):
        return MLflow(self.uri, self.experiment, **settings)

    def runs(self):
        """The experiment's runs, the newest first."""
        found = self.client.get_experiment_by_name(self.experiment)
        return self.client.search_runs([found.experiment_id])

    def history(self, run, name):
        rows = self.client.get_metric_history(run.info.run_id, name)
        return [(row.step, row.value) for row in rows]


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """One for all tests: making it takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def store(database, monkeypatch, tmp_path, request):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.chdir(tmp_path)
    mlflow = pytest.importorskip("mlflow", reason="MLflow is an extra: pip install mlflow")
    pytest.importorskip("sqlalchemy", reason="mlflow-skinny has no database")
    yield Store(mlflow, database, request.node.name)
    left_active = mlflow.active_run()
    mlflow.end_run()
    mlflow.set_tracking_uri(None)
    assert left_active is None


def weights(trainer):
    return torch.cat([t.flatten().float() for t in trainer.model.state_dict().values()])


def test_each_epochs_metrics_and_the_runs_description_are_logged(store, make_trainer, loader):
    trainer, losses = make_trainer(), []
    config = {"data": {"label": "case", **{f"c{i}": i for i in range(150)}}}
    trainer.attach(store.handler(config=config))
    trainer.add_event_handler(
        TrainEvents.LOG_EVENT, lambda t: pytest.fail(t.state.notice["message"])
    )
    for epochs in (1, 2):
        trainer.state.metrics["recall@0.9"] = 0.5
        trainer.fit(loader, epochs)
        losses.append((epochs, trainer.state.metrics["train/loss"]))
    (run,) = store.runs()
    assert (run.info.run_name, run.info.status) == ("run", "FINISHED")
    assert store.history(run, "train/loss") == losses
    assert run.data.metrics["recall_0.9"] == 0.5
    assert run.data.params["model"] == "TinyModel"
    assert run.data.params["data.label"] == "case"
    assert run.data.params["data.c149"] == "149"


def test_a_resumed_run_continues_its_mlflow_run(store, make_trainer, loader):
    def build(seed):
        trainer = make_trainer(seed=seed)
        trainer.attach(
            Checkpoint(None, save_top_k=0, save_best=False, every_epochs=2), store.handler()
        )
        return trainer

    straight = build(0)
    torch.manual_seed(5)
    straight.fit(loader, 4)
    cut = build(0)
    states = {}
    cut.add_event_handler(  # as if killed in the epoch after
        TrainEvents.LOG_EVENT,
        lambda t: (
            states.update(load_checkpoint(t.run_dir / "checkpoints" / "last.pt"))
            if t.state.notice.get("epoch") == 2
            else None
        ),
    )
    torch.manual_seed(5)
    cut.fit(loader, 3)
    resumed = build(9)
    resumed.restore(states["states"])
    resumed.fit(loader, 4)
    runs = store.runs()
    assert len(runs) == 2
    histories = [store.history(run, "train/loss") for run in runs]
    assert [step for step, _ in histories[0]] == [1, 2, 3, 4]
    assert histories[0] == histories[1]


def test_training_is_the_same_with_it(store, make_trainer, loader):
    plain, logged = make_trainer(), make_trainer()
    for trainer, handlers in ((plain, []), (logged, [store.handler()])):
        trainer.attach(*handlers)
        torch.manual_seed(5)
        trainer.fit(loader, 2)
    assert torch.equal(weights(plain), weights(logged))


def test_a_run_that_fails_is_marked_so(store, make_trainer, loader):
    trainer, mlflow_log = make_trainer(), store.handler()
    trainer.attach(mlflow_log)
    trainer.loss = None
    with pytest.raises(TypeError):
        trainer.fit(loader, 1)
    mlflow_log.close()
    assert [run.info.status for run in store.runs()] == ["FAILED"]
    mlflow_log.close()


def test_a_store_that_fails_does_not_end_the_training(store, make_trainer, loader):
    MlflowException = importlib.import_module("mlflow").MlflowException  # noqa: N806
    trainer, mlflow_log, notices = make_trainer(), store.handler(), []
    trainer.attach(mlflow_log)
    trainer.add_event_handler(TrainEvents.LOG_EVENT, lambda t: notices.append(t.state.notice))

    def unreachable(values, step):
        raise MlflowException("no\nroute")

    def break_it(trainer):
        mlflow_log._logger.log_metrics = unreachable

    trainer.add_event_handler(TrainEvents.BATCH_READY(once=1), break_it)
    trainer.fit(loader, 2)
    assert trainer.state.epoch == 2
    assert [notice["message"] for notice in notices] == [
        f"mlflow: epoch {epoch} was not logged: no route" for epoch in (1, 2)
    ]


def test_a_store_that_refuses_is_told_before_training(store, make_trainer, loader):
    trainer = make_trainer()
    trainer.attach(MLflow("nonsense://store"))
    with pytest.raises(UsageError, match=r"^mlflow: .*nonsense"):
        trainer.fit(loader, 1)
    assert trainer.state.iteration == 0


def test_a_run_that_is_active_is_not_taken_over(store, make_trainer, loader):
    mlflow = importlib.import_module("mlflow")
    mlflow.set_tracking_uri(store.uri)
    mlflow.set_experiment(store.experiment)
    trainer = make_trainer()
    trainer.attach(store.handler())
    with mlflow.start_run(), pytest.raises(UsageError, match="a run is active"):
        trainer.fit(loader, 1)


def test_without_the_package_its_install_command_is_named(make_trainer, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UsageError, match=r"pip install mlflow$"):
        make_trainer().attach(MLflow())


def test_parameters_are_flat_texts():
    parts = list(_parts({"lr": 0.1, "data": {"label": "case", "tags": ["a"]}}))
    assert parts == [{"lr": "0.1", "data.label": "case", "data.tags": "['a']"}]
