"""The run's metrics for MLflow."""

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from datasets.errors import UsageError, one_line
from engine.reporting import ExternalLogger, epoch_values
from engine.trainer import Trainer

# MLflow's limits: parameters a request, characters a value.
PARAMS_AT_ONCE = 100
VALUE_CHARS = 6000
NOT_IN_NAMES = re.compile(r"[^\w\-. /]")


class MLflow(ExternalLogger):
    """Logs each epoch's metrics and learning rate to MLflow, through Ignite's ``MLflowLogger``.

    Its parameters describe the run and hold ``config``, nested values with dotted names. A resumed
    run continues the same MLflow run and logs no epoch twice. NaN is left out; characters that
    MLflow does not allow in names become ``_``. Where the server stops answering during a run,
    training goes on and a notice names the epoch.
    """

    package = "mlflow"

    def __init__(
        self,
        tracking_uri: str | None = None,
        experiment: str = "scanfire",
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(name, config)
        self.tracking_uri, self.experiment = tracking_uri, experiment
        self._logged_epoch = 0

    def _begin(self, description: dict[str, Any]) -> None:
        # Imported here, because it takes seconds.
        import mlflow  # type: ignore[import-not-found, unused-ignore]
        from ignite.handlers import MLflowLogger

        if mlflow.active_run() is not None:
            raise UsageError("mlflow: a run is active in this process: mlflow.end_run() ends it")
        try:
            if self.tracking_uri is not None:
                mlflow.set_tracking_uri(self.tracking_uri)
            mlflow.set_experiment(self.experiment)
            mlflow.start_run(run_id=self._run_id, run_name=self.name)
            self._logger = MLflowLogger(self.tracking_uri)  # takes the active run
            if self._run_id is None:
                self._run_id = self._logger.active_run.info.run_id
                for part in _parts(description):
                    self._logger.log_params(part)
            else:
                # Epochs after the checkpoint were logged by the process that was cut off.
                seen = mlflow.MlflowClient().get_metric_history(self._run_id, "lr")
                self._logged_epoch = max((metric.step for metric in seen), default=0)
        except mlflow.MlflowException as error:
            raise UsageError(f"mlflow: {one_line(error)}") from error

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
            message = f"mlflow: epoch {epoch} was not logged: {one_line(error)}"
            trainer.log_event("notice", message=message)

    def _close(self, logger: Any, failed: bool) -> None:
        logger.end_run("FAILED" if failed else "FINISHED")


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
