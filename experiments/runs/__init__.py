"""One experiment from set-up to export."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from experiments.runs.experiment import Experiment
    from experiments.runs.export import SUMMARY, pack_preprocessing
    from experiments.runs.final_training import FinalTraining, train_on_all
    from experiments.runs.refit import REFIT_FOLDER, FinalTask, FinalTrainingError
    from experiments.runs.run_setup import holds_a_beginning
    from experiments.runs.terminal_run import (
        ABSENT,
        FINISHED,
        dry_run,
        print_results,
        run_all_stages,
        run_each,
        run_one,
        state_of,
        states_of,
    )
else:
    __getattr__ = lazy_exports(__name__, __file__)
