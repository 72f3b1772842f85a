"""Ending a run that does worse than the others of its study."""

import warnings
from types import ModuleType
from typing import Any

from ignite.engine import Events

from datasets.errors import UsageError, one_line
from datasets.specs import require_whole
from engine.distributed import broadcast_from_main
from engine.events import Phase, TrainEvents, in_phase
from engine.metrics import Monitor
from engine.protocols import SavedAttributes
from engine.trainer import Trainer


def import_optuna() -> ModuleType:
    """Optuna, which prints nothing; UsageError with the pip command where it is missing."""
    try:
        import optuna
    except ImportError as error:
        raise UsageError(
            "a search needs the package optuna: pip install 'scanfire[sweep]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    # The retry of trials whose process died is called experimental since 2021.
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna


class Pruning(SavedAttributes):
    """Reports a metric of each epoch to a trial of an Optuna study, and prunes the run.

    A run is pruned after an epoch in which its best value so far is worse than the median of the
    values that the study's completed trials had in that epoch (Golovin et al. 2017, "Google
    Vizier"). Nothing is pruned up to ``start_epoch`` or before ``startup_trials`` are completed.
    An epoch without the metric is not reported.

    Args:
        trial: A trial (``optuna.Trial``), whose study has a pruner of its own and whose caller
            tells the study its result; or the number of a trial in ``study``. By default the run
            makes a trial of its own: completed with its best value, or pruned.
        storage: Address of the study's database, such as ``sqlite:///study.db``.
        study: Name of the study in the storage; made where it is absent.

    A resumed run continues its own trial, and reports the epochs that a new trial lacks. One that
    was pruned trains no further. Announces ``pruned``.
    """

    phase = Phase.DECIDE
    saved = ("_number", "_values", "_pruned")

    def __init__(
        self,
        trial: Any = None,
        storage: str | None = None,
        study: str = "scanfire",
        monitor: str = "val/auroc",
        mode: str | None = None,
        start_epoch: int = 5,
        startup_trials: int = 5,
    ) -> None:
        self.start_epoch = require_whole("pruning.start_epoch", start_epoch, 0)
        self.startup_trials = require_whole("pruning.startup_trials", startup_trials, 1)
        self.monitor = Monitor(monitor, mode, "pruning")
        by_number = trial is None or type(trial) is int
        if by_number != (storage is not None):
            raise UsageError(
                "pruning.storage: name the study's database, such as sqlite:///study.db"
                if by_number
                else "pruning.storage has no effect beside a trial; leave it out"
            )
        self.storage, self.study = storage, study
        self._trial = None if by_number else trial
        self._number: int | None = trial if by_number else trial.number
        self._own = trial is None
        self._values: dict[int, float] = {}
        self._pruned: int | None = None
        self._interrupted = False

    @property
    def pruned(self) -> bool:
        """Whether the run was pruned."""
        return self._pruned is not None

    @property
    def best(self) -> float | None:
        """The best value so far, None where none was a number."""
        best: float | None = None
        for value in self._values.values():
            if self.monitor.is_better(value, best):
                best = value
        return best

    def attach(self, trainer: Trainer) -> None:
        """Listen to the run's start and end, to the ends of epochs, and to an interruption."""
        import_optuna()
        self.monitor.attach(trainer)
        trainer.register_state("pruning", self)
        trainer.add_event_handler(Events.STARTED, self.start)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self)
        trainer.add_event_handler(TrainEvents.LOG_EVENT, self.listen)
        trainer.add_event_handler(Events.COMPLETED, self.finish)

    def load_state_dict(self, state_dict: Any) -> None:
        """As saved, but a trial that was given stays."""
        given = self._number
        super().load_state_dict(state_dict)
        if given is not None:
            self._number = given

    def start(self, trainer: Trainer) -> None:
        """Find the trial, or make one; report what it lacks of a resumed run."""
        broadcast_from_main(self._begin)
        if self.pruned:
            trainer.log_event(
                "nothing_to_train",
                epochs=trainer.state.epoch,
                max_epochs=trainer.state.max_epochs,
                message=f"the run was pruned after epoch {self._pruned}",
            )
            trainer.terminate()

    def __call__(self, trainer: Trainer) -> None:
        """Report this epoch's value and ask whether to go on."""
        value, epoch = self.monitor.read(trainer), trainer.state.epoch
        if value is None:
            return
        self._values[epoch] = value
        worse = broadcast_from_main(lambda: self._report(epoch, value))
        if worse and epoch < trainer.state.max_epochs:
            self._pruned = epoch
            trainer.log_event(
                "pruned",
                epoch=epoch,
                monitor=self.monitor.name,
                best=self.best,
                message=f"pruned after epoch {epoch}: the best {self.monitor.name} so far, "
                f"{self.best}, is worse than the median of the other trials",
            )
            trainer.terminate()

    def listen(self, trainer: Trainer) -> None:
        """Note that a signal ended the run: it will be continued."""
        self._interrupted |= trainer.state.notice["event"] == "interrupted"

    @in_phase(Phase.SAVE)  # after who announces an interruption
    def finish(self, trainer: Trainer) -> None:
        """Tell the study how a trial of the run's own ended."""
        if self._own and not self._interrupted:
            broadcast_from_main(self._tell)

    def _begin(self) -> None:
        if self._trial is None:
            self._trial = self._find()
            self._number = self._trial.number
        for epoch, value in self._values.items():
            self._report(epoch, value)

    def _find(self) -> Any:
        optuna = import_optuna()
        direction = "maximize" if self.monitor.mode == "max" else "minimize"
        pruner = optuna.pruners.MedianPruner(self.startup_trials, self.start_epoch + 1)
        try:
            storage = optuna.storages.get_storage(self.storage)
            study = optuna.create_study(
                storage=storage,
                study_name=self.study,
                direction=direction,
                load_if_exists=True,
                pruner=pruner,
            )
            if self._number is None:
                return study.ask()
            found = storage.get_study_id_from_name(self.study)
            number = storage.get_trial_id_from_study_id_trial_number(found, self._number)
            return optuna.Trial(study, number)
        except KeyError as error:
            raise UsageError(
                f"pruning.trial: the study '{self.study}' has no trial {self._number}"
            ) from error
        except Exception as error:  # of the database's driver, whichever it is
            raise UsageError(
                f"pruning.storage: no study can be opened in it: {one_line(error)}"
            ) from error

    def _report(self, epoch: int, value: float) -> bool:
        """Report an epoch's value, once; returns whether the trial is to be pruned."""
        assert self._trial is not None
        frozen = self._trial.study.get_trials(deepcopy=False)[self._trial.number]
        if frozen.state.is_finished():
            return False  # told by another process: a value of its own would change nothing
        if epoch not in frozen.intermediate_values:
            self._trial.report(value, epoch)
        return bool(self._trial.should_prune())

    def _tell(self) -> None:
        optuna = import_optuna()
        state = optuna.trial.TrialState
        assert self._trial is not None
        if self.pruned:
            ended = {"state": state.PRUNED}
        elif self.best is None:
            ended = {"state": state.FAIL}
        else:
            ended = {"values": self.best}
        self._trial.study.tell(self._trial.number, **ended, skip_if_finished=True)
