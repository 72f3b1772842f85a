"""The run's metrics for MLflow."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from ignite.engine import Events

from datasets.errors import UsageError
from engine.checkpointing import preserve_rng_state
from engine.events import Phase
from engine.protocols import SavedAttributes
from engine.reporting import describe_run, epoch_values, require_package
from engine.trainer import Trainer

# MLflow's limits: parameters a request, characters a value.
PARAMS_AT_ONCE = 100
VALUE_CHARS = 6000
NOT_IN_NAMES = re.compile(r"[^\w\-. /]")


class MLflow(SavedAttributes):
    """Logs each epoch's metrics and learning rate to MLflow, through Ignite's ``MLflowLogger``.

    Needs ``pip install mlflow``. Its parameters describe the run and hold ``config``, nested values
    with dotted names. A resumed run continues the same MLflow run and logs no epoch twice. An
    undefined metric (NaN) is left out; characters that MLflow does not allow in names become ``_``.
    Where the server stops answering during a run, training goes on and a notice names the epoch.
    ``tracking_uri``, such as ``sqlite:///mlflow.db``, is by default MLflow's own.
    """

    phase = Phase.RECORD
    saved = ("_run_id",)
    first_process_only = True

    def __init__(
        self,
        tracking_uri: str | None = None,
        experiment: str = "scanfire",
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.tracking_uri, self.experiment, self.name = tracking_uri, experiment, name
        self.config = dict(config or {})
        self._run_id: str | None = None
        self._logged_epoch = 0
        self._logger: Any = None

    def attach(self, trainer: Trainer) -> None:
        """Listen to the run's start and end and to the ends of epochs."""
        require_package("mlflow")
        if self.name is None and trainer.run_dir is not None:
            self.name = Path(trainer.run_dir).name
        trainer.register_state("mlflow", self)
        trainer.add_event_handler(Events.STARTED, self.start)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self)
        trainer.add_event_handler(Events.COMPLETED, self.finish)

    def start(self, trainer: Trainer) -> None:
        """Begin the MLflow run, or continue it; UsageError if MLflow refuses."""
        if trainer.should_terminate:  # a finished run: nothing will be logged
            return
        # Imported here, because it takes seconds.
        import mlflow  # type: ignore[import-not-found, unused-ignore]
        from ignite.handlers import MLflowLogger

        if mlflow.active_run() is not None:
            raise UsageError("mlflow: a run is active in this process: mlflow.end_run() ends it")
        try:
            with preserve_rng_state():
                if self.tracking_uri is not None:
                    mlflow.set_tracking_uri(self.tracking_uri)
                mlflow.set_experiment(self.experiment)
                mlflow.start_run(run_id=self._run_id, run_name=self.name)
                self._logger = MLflowLogger(self.tracking_uri)  # takes the active run
                if self._run_id is None:
                    self._run_id = self._logger.active_run.info.run_id
                    for part in _parts({**describe_run(trainer), **self.config}):
                        self._logger.log_params(part)
                else:
                    # Epochs after the checkpoint were logged by the process that was cut off.
                    seen = mlflow.MlflowClient().get_metric_history(self._run_id, "lr")
                    self._logged_epoch = max((metric.step for metric in seen), default=0)
        except mlflow.MlflowException as error:
            raise UsageError(f"mlflow: {' '.join(str(error).split())}") from error

    def __call__(self, trainer: Trainer) -> None:
        """Log one epoch."""
        epoch = trainer.state.epoch
        if self._logger is None or epoch <= self._logged_epoch:
            return
        from mlflow import MlflowException

        values = {NOT_IN_NAMES.sub("_", k): v for k, v in epoch_values(trainer).items()}
        try:
            self._logger.log_metrics(values, step=epoch)
        except MlflowException as error:
            reason = " ".join(str(error).split())
            trainer.log_event("notice", message=f"mlflow: epoch {epoch} was not logged: {reason}")

    def finish(self) -> None:
        """Mark the MLflow run as finished."""
        self._end("FINISHED")

    def close(self) -> None:
        """Mark the MLflow run as failed, unless it has ended; call it after an exception."""
        self._end("FAILED")

    def _end(self, status: str) -> None:
        logger, self._logger = self._logger, None
        if logger is not None:
            logger.end_run(status)


def _parts(values: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Parameters as MLflow takes them: flat, short, and not too many at once."""
    flat = iter(_flat(values))
    while part := dict(islice(flat, PARAMS_AT_ONCE)):
        yield part


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        name = f"{before}{NOT_IN_NAMES.sub('_', str(key))}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        else:
            yield name, str(value)[:VALUE_CHARS]
