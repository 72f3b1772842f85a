"""The recommended model, of all samples: a folder that it can be loaded from."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file

from datasets.errors import UsageError
from datasets.files import write_whole
from datasets.splits import SUBSETS
from engine.metrics import CLASSES, EpochOutputs
from engine.reporting import as_json
from experiments.analysis import as_plain, decide
from experiments.baselines import fit_baselines, save_baselines
from experiments.builders import build_data
from experiments.config import LATE_FUSION, Config, check_config, write_yaml
from experiments.folds.fold_baselines import members_of
from experiments.folds.fold_checks import StoppedError
from experiments.folds.fold_leaderboard import title
from experiments.report.text import escape_markdown, loading_text
from experiments.run_files import FinishedRun, RunFile
from experiments.runs import (
    REFIT_FOLDER,
    FinalTask,
    FinalTrainingError,
    pack_preprocessing,
)

if TYPE_CHECKING:
    from experiments.folds.fold_leaderboard import FoldLeaderboard
    from experiments.folds.out_of_fold import OutOfFold
    from experiments.folds.side_by_side import SideBySide

FOLDER = "recommended"
# Probabilities of 0 and 1 have no logarithm.
SMALLEST = 1e-12
CARD = """\
# Recommended model: {name}

This is {model}, trained on all {samples} samples of {groups} groups.{how}

No sample was left to validate or to test this model by: there are no figures of the model itself.
The estimate is the cross-validation's, of choosing a model anew in each fold and testing it on
samples that it was not trained on. The model here was trained on more samples than those.

{estimate}.

Research on spectra like those it was trained on; it is not a medical device.

## How to load it

{load}
"""


def make_recommended(
    board: FoldLeaderboard, processes: SideBySide, train: Callable[[FinalTask], int | None]
) -> str:
    """Fit the recommended model to all samples; returns a line on it.

    Into ``recommended``, a network of several seeds into ``recommended/seed<number>`` each.
    ``train`` is :func:`experiments.runs.train_on_all`. StoppedError if a signal stopped it.
    """
    found, folder = board.found, board.found.plan.folder / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if found.best_first[0] not in found.plan.candidates:
            return _fit_baseline(board, folder)
        tasks = _final_tasks(board, folder)
        return _train_networks(tasks, found, folder, processes, train)
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror}") from error


def _fit_baseline(board: FoldLeaderboard, folder: Path) -> str:
    found, plan = board.found, board.found.plan
    _remove_others(folder)
    config = plan.folds[0].config
    names = members_of(found.best_first[0], found.baselines)
    data = build_data(config, fitted_on=SUBSETS)
    singles = [name for name in names if name != LATE_FUSION]
    settings_of = config.baselines.model_copy(update={"models": singles})
    fitted = fit_baselines(data, settings_of, found.metric, config.seed)
    if LATE_FUSION in names:
        fitted = replace(fitted, fused=singles)
    write_whole(pack_preprocessing(data), folder, RunFile.PREPROCESSING)
    settings = plan.base.plain()
    settings["data"]["transforms"] = config.plain()["data"]["transforms"]  # not ``auto``
    write_whole(write_yaml(settings).encode(), folder, RunFile.CONFIG)
    card = _card(board)
    write_whole(card.encode(), folder, RunFile.CARD)
    _write_decisions(found, folder)
    return save_baselines(fitted, folder) or f"recommended model, of all samples: {folder}"


def _final_tasks(board: FoldLeaderboard, folder: Path) -> list[FinalTask]:
    """One for each seed."""
    found, plan, name = board.found, board.found.plan, board.found.best_first[0]
    (folder / RunFile.BASELINES).unlink(missing_ok=True)
    several = len(plan.seeds) > 1
    folders = {seed: folder / f"seed{seed}" if several else folder for seed in plan.seeds}
    _remove_others(folder, list(folders.values()))
    own = {key: run for key, run in found.runs.items() if key[0] == name}
    chosen = [selected_epoch(run) for run in own.values()]
    epochs = max(1, round(median(chosen)))
    how = (
        f" It was trained for {epochs} epoch{'' if epochs == 1 else 's'}, the median of the "
        f"selected epochs of the folds ({min(chosen)} to {max(chosen)})."
    )
    if several:
        how += (
            f" It is one of {len(plan.seeds)} of different seeds; the estimate is of the mean of "
            "their predictions."
        )
    card = _card(board, how)
    return [
        FinalTask(_final_config(found, name, seed), place, epochs, card, member_weights(own, seed))
        for seed, place in folders.items()
    ]


def _train_networks(
    tasks: Sequence[FinalTask],
    found: OutOfFold,
    folder: Path,
    processes: SideBySide,
    train: Callable[[FinalTask], int | None],
) -> str:
    try:
        for _, code in processes.each(train, tasks):
            if code is not None:
                raise StoppedError(int(code))
    except FinalTrainingError as error:
        for task in tasks:
            (task.folder / RunFile.WEIGHTS).unlink(missing_ok=True)
            write_whole(write_yaml(task.config.plain()).encode(), task.folder, RunFile.CONFIG)
        name = tasks[0].config.model.name
        return f"{name} is not trained on all samples, {folder} has its settings alone: {error}"
    _write_decisions(found, folder)
    if len(tasks) > 1:
        return f"recommended models, of all samples, one for each seed: {folder}"
    return f"recommended model, of all samples: {folder}"


def _write_decisions(found: OutOfFold, folder: Path) -> None:
    """Choose thresholds and a temperature on the test folds of the model's like."""
    pooled = found.pooled(found.best_first[0])
    if pooled.task == "regression":
        return
    logits = torch.logit(pooled.logits, eps=SMALLEST)
    if pooled.task in CLASSES:
        logits = pooled.logits.clamp_min(SMALLEST).log()
    outputs = EpochOutputs(logits, pooled.target, pooled.sample_id, {}, pooled.task)
    both = {"val": outputs, "test": outputs}
    decided = as_plain(*decide(both, found.names, found.plan.base.report.threshold))
    text = json.dumps(as_json(decided), indent=2) + "\n"
    write_whole(text.encode(), folder, RunFile.DECISIONS)


def selected_epoch(run: FinishedRun) -> int:
    """The epoch whose weights were tested; the last one where none was scored."""
    return int((run.metrics["best"] or run.metrics["last"])["epoch"])


def member_weights(runs: Mapping[tuple[str, int, int], FinishedRun], seed: int) -> list[float]:
    """Of a model with members the mean of the weights that the folds' validation sets chose.

    Empty for other models, and where the folds' members differ in number.
    """
    files = [run.folder / RunFile.WEIGHTS for key, run in runs.items() if key[1] == seed]
    found = [load_file(file).get("member_weights") for file in files if file.is_file()]
    chosen = [weights for weights in found if weights is not None]
    if len({len(weights) for weights in chosen}) != 1:  # none, or of other members
        return []
    mean: list[float] = torch.stack(chosen).mean(dim=0).tolist()
    return mean


def _final_config(found: OutOfFold, name: str, seed: int) -> Config:
    """The settings of the first fold's run, derived ones too; the schedule is as long as any's."""
    plan = found.plan
    own = [found.runs[name, seed, number] for number in range(len(plan.folds))]
    values = check_config(own[0].config).resolved()
    values["exp_name"] = f"{plan.base.exp_name}-{FOLDER}"
    values["trainer"]["max_epochs"] = max(run.config["trainer"]["max_epochs"] for run in own)
    values["data"]["split"] = plan.base.data.split.plain() | {"fold": None}
    return check_config(values)


def _card(board: FoldLeaderboard, how: str = "") -> str:
    found, plan = board.found, board.found.plan
    return CARD.format(
        name=escape_markdown(plan.base.exp_name),
        model=escape_markdown(title(found, found.best_first[0])),
        samples=len(plan.cohort.sample_ids),
        groups=len(set(found.groups)),
        how=how,
        estimate=escape_markdown(board.verdict.capitalized),
        load=loading_text(),
    )


def _remove_others(folder: Path, kept: Collection[Path] = ()) -> None:
    """Remove what was trained for another recommendation, but for the networks that are kept."""
    (folder / RunFile.DECISIONS).unlink(missing_ok=True)
    for place in folder.iterdir():
        if re.fullmatch(r"seed\d+", place.name) and place not in kept:
            shutil.rmtree(place)
    if folder not in kept:
        described = (RunFile.CARD, RunFile.CONFIG, RunFile.ENVIRONMENT, RunFile.SPLITS)
        for name in (RunFile.WEIGHTS, RunFile.PREPROCESSING, *described):
            (folder / name).unlink(missing_ok=True)
        with suppress(OSError):  # there is none, or it holds something else
            (folder / RunFile.WEIGHTS).parent.rmdir()
        shutil.rmtree(folder / REFIT_FOLDER, ignore_errors=True)
