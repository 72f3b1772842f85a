"""What a run writes into its folder, and reads back."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from experiments.run_files.finished_run import (
        FinishedRun,
        SavedOutputs,
        find_runs,
        outputs_of,
        outputs_table,
        predictions_table,
        read_predictions,
        read_run,
        read_runs,
    )
    from experiments.run_files.folder import (
        FINISHED,
        RunFile,
        RunLock,
        find_run,
        is_finished,
        is_named,
        is_run,
        new_run_dir,
        require_place,
        run_names,
        to_resume,
        write_config,
    )
    from experiments.run_files.package import (
        read_package,
        unpack,
        without_places,
        write_package,
    )
    from experiments.run_files.versions import (
        DataVersion,
        changed_cohort,
        check_same_data,
        data_version,
        digest,
        read_version,
    )
else:
    __getattr__ = lazy_exports(__name__, __file__)
