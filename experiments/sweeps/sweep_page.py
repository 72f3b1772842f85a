"""The page of a search: its history, the settings of its trials, and which of them matter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from datasets.errors import one_line
from engine.reporting import figure_text
from experiments.report.figures import Section, write_figure_page
from experiments.sweeps.study import (
    REFUSED,
    SECONDS,
    account,
    best_trial,
    first_number,
    shown_value,
)
from handlers.pruning import import_optuna

if TYPE_CHECKING:
    from experiments.sweeps.trials import Sweep

PAGE_NAME = "sweep.html"
OPTIMISTIC = (
    "The best of many figures of one validation set is too good by the choice among them. No trial "
    "has seen the test set: it is measured once, when the best configuration is run."
)
IMPORTANCE = (
    "The share of the variance of the completed trials' figures that each setting explains, alone "
    'and with others, by a forest of regression trees (Hutter et al. 2014, "An Efficient Approach '
    'for Assessing Hyperparameter Importance"). Of few trials it is uncertain.'
)


def write_sweep_page(sweep: Sweep, study: Any, of: str) -> Path:
    """Write the page, one file that asks the network for nothing; ``of`` is what was measured."""
    best = best_trial(study)
    told = "" if best is None else f" Best {sweep.monitor} {figure_text(best.value)} ({of})."
    lead = f"{account(study).told()}.{told}"
    return write_figure_page(
        sweep.folder / PAGE_NAME, f"{sweep.base.exp_name}: search", lead, sections(sweep, study)
    )


def sections(sweep: Sweep, study: Any) -> list[Section]:
    """The parts of the page, in their order."""
    optuna = import_optuna()
    draw = optuna.visualization
    named = {"target_name": sweep.monitor}
    history = draw.plot_optimization_history(study, **named)
    parallel = draw.plot_parallel_coordinate(study, **named)
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=sweep.base.seed)
    figure: go.Figure | None = None
    try:
        figure = draw.plot_param_importances(study, evaluator=evaluator, **named)
        why = IMPORTANCE
    except (ValueError, RuntimeError) as error:  # of fewer than two different completed trials
        why = f"Nothing can be said yet: {one_line(error)}"
    for drawn in (history, parallel, figure):
        if drawn is not None:
            drawn.update_layout(title=None)
    if figure is not None:
        figure.update_yaxes(automargin=True, title=None)
    return [
        Section("history", "History", history, text=OPTIMISTIC),
        Section("parallel", "Settings of the completed trials", parallel),
        Section("importance", "Importance of the settings", figure, text=why),
        Section("trials", "Trials", table=trial_cells(sweep, study)),
    ]


def trial_cells(sweep: Sweep, study: Any) -> list[list[str]]:
    """A row for each trial, the best completed one first, then those without a figure."""
    trials = study.get_trials(deepcopy=False)
    keys = [axis.key for axis in sweep.space.axes]
    sign = -1 if sweep.mode == "max" else 1

    def rank(trial: Any) -> tuple[int, float]:
        order = ("COMPLETE", "PRUNED", "RUNNING", "WAITING", "FAIL").index(trial.state.name)
        return order, sign * trial.value if trial.state.name == "COMPLETE" else trial.number

    rows = []
    for trial in sorted(trials, key=rank):
        value = "" if trial.value is None else figure_text(trial.value)
        settings = [shown_value(trial.params[k]) if k in trial.params else "" for k in keys]
        seconds = trial.user_attrs.get(SECONDS, "")
        first = first_number(trial)
        name = str(trial.number) if first == trial.number else f"{trial.number} (again {first})"
        rows.append([name, _outcome(trial), value, *settings, str(seconds)])
    return [["trial", "outcome", sweep.monitor, *keys, "seconds"], *rows]


def _outcome(trial: Any) -> str:
    if REFUSED in trial.user_attrs:
        return f"refused: {trial.user_attrs[REFUSED]}"
    if trial.state.name == "PRUNED":
        return f"pruned after {trial.last_step}"
    named = {"COMPLETE": "completed", "FAIL": "cut off, begun again"}
    return named.get(trial.state.name, trial.state.name.lower())
