"""How a run begins: what its folder says of it first, or where a cut one is taken up again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from datasets.audit.findings import Finding
from datasets.errors import UsageError
from datasets.split import write_splits
from engine.checkpoints import check_meta, newest_whole_checkpoint
from engine.files import write_whole
from engine.processes import fail_together, from_first
from engine.trainer import Trainer
from experiments.audit import write_audit
from experiments.build_data import Data
from experiments.config import Config
from experiments.data_version import digest
from experiments.environment import describe_environment
from experiments.process_group import describe_group
from experiments.run_folder import write_config


def run_identity(config: Config, data: Data, model: nn.Module) -> dict[str, Any]:
    """What a run must share with the one that it continues, in plain types.

    Args:
        config: Names the model.
        data: Of which files, prepared how, and split how.
        model: By the shapes of its weights.
    """
    version = data.version
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    return {
        "cohort": dict(version.files),
        "preparation": dict(version.preparation),
        "split": version.split,
        "model": {"name": config.model.name, "shapes": digest(shapes)},
    }


def take_up(trainer: Trainer, run_dir: Path, identity: Mapping[str, Any]) -> None:
    """Stand where the newest whole checkpoint of a cut run stood; all processes together.

    Args:
        trainer: With all that the run keeps attached to it.
        run_dir: The run's folder.
        identity: Of the run as it is set up now (:func:`run_identity`).

    Raises:
        UsageError: The checkpoint is of another run, or none of them is whole.
    """
    folder = run_dir / "checkpoints"
    if not from_first(lambda: list(folder.glob("*.pt"))):
        return  # cut off before its first checkpoint: there is nothing to lose
    with fail_together():  # not every machine may see the folder
        path, content, skipped = newest_whole_checkpoint(folder)
        check_meta(content["meta"], identity)
    trainer.restore(content["states"])
    for line in skipped:
        trainer.announce("checkpoint_skipped", reason=line)
    trainer.announce(
        "resumed",
        checkpoint=path.name,
        epoch=trainer.state.epoch,
        iteration=trainer.state.iteration,
    )


def write_beginning(
    run_dir: Path, config: Config, data: Data, audit: Sequence[Finding], resumed: bool
) -> None:
    """Write what a run's folder holds before the training.

    Args:
        run_dir: It exists.
        config: Written last: from then on the run can be continued.
        data: The split that is kept, and the versions of its files.
        audit: What was found.
        resumed: The rest was written when the run began.

    Raises:
        UsageError: The folder cannot be written to.
    """
    try:
        if not resumed:
            environment = describe_environment(data.version.plain(), describe_group(config.trainer))
            text = json.dumps(environment, indent=2, ensure_ascii=False) + "\n"
            write_whole(text.encode(), run_dir, "environment.json")
            cohort = data.cohort
            write_splits(run_dir / "splits.csv", cohort.sample_ids, cohort.groups, data.split)
            if config.audit.enabled:
                write_audit(audit, run_dir)
        write_config(run_dir, config)
    except OSError as error:
        raise UsageError(f"cannot write to {run_dir}: {error.strerror}") from error
