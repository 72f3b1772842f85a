"""The summary of a run, and its model card.

The card is after Mitchell et al. 2019, "Model Cards for Model Reporting".
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from datasets.cohort import ROLES_FILE, read_cohort_yaml
from datasets.splits import SUBSETS
from engine.metrics import LAST_EPOCH
from engine.reporting import bounds_text, figure_texts, read_log, with_bounds
from experiments.analysis import about_members, about_refitted, about_trees, finding_number
from experiments.baselines import leaderboard_section
from experiments.config import write_yaml
from experiments.report.text.markdown_text import (
    TEMPLATES,
    class_table,
    escape_markdown,
    limits,
    warnings_of,
)
from experiments.run_files import RunFile, without_places

if TYPE_CHECKING:
    from experiments.analysis import Outcome

# More groups than these are counted, not named: they are patients rather than sites.
MAX_NAMED_GROUPS = 12
# What the weights were made with; of the other sections none changes what is learned.
SETTINGS = ("model", "loss", "optimizer", "lr_scheduler", "trainer", "ema", "seed")
TEMPLATES.filters |= {
    "bounded": with_bounds,
    "by_class": class_table,
    "bounds": bounds_text,
    "figures": figure_texts,
    "leaderboard": leaderboard_section,
    "number": finding_number,
}
TEMPLATES.globals |= {
    "about_members": about_members,
    "about_refitted": about_refitted,
    "about_trees": about_trees,
    "LAST_EPOCH": LAST_EPOCH,
}


def summary(outcome: Outcome) -> str:
    """The run on one Markdown page."""
    units = _about_units(outcome)
    return TEMPLATES.get_template("summary.md.j2").render(
        outcome=outcome, cohort=outcome.data.cohort, units=units, files=RunFile
    )


def _about_units(outcome: Outcome) -> str:
    """A sentence on the units of a regression; empty for other tasks."""
    if outcome.data.scaler is None:
        return ""
    names = outcome.data.cohort.class_names
    each = ", each by itself; r2 is the mean over them" if len(names) > 1 else ""
    units = f"{', '.join(map(escape_markdown, names))}{each}"
    return f"Losses are of standardised targets; the metrics are in the units of {units}."


def model_card(outcome: Outcome) -> str:
    """The card, in Markdown."""
    config, cohort = outcome.config, outcome.data.cohort
    environment = json.loads((outcome.run_dir / RunFile.ENVIRONMENT).read_text("utf-8"))
    settings = config.resolved()
    chosen = {key: settings[key] for key in SETTINGS} | {
        "data": {key: settings["data"][key] for key in ("transforms", "augmentations")}
    }
    # Where nothing was scored there is no best checkpoint.
    scored = (outcome.run_dir / "checkpoints" / "best.pt").is_file()
    monitor = config.checkpoint.monitor
    selected = scored and monitor != LAST_EPOCH
    warnings = (f"**Warning:** {escape_markdown(told)}." for told in warnings_of(outcome))
    return TEMPLATES.get_template("model_card.md.j2").render(
        outcome=outcome,
        config=config,
        cohort=cohort,
        environment=environment,
        began=read_log(outcome.run_dir / RunFile.LOG)[0]["time"],
        names=", ".join(map(escape_markdown, cohort.class_names)),
        chosen_by=f"the best {escape_markdown(monitor)}" if selected else "the last epoch",
        settings=write_yaml(without_places(chosen)),
        factors=_factors(outcome),
        licence=_licence(outcome),
        units=_about_units(outcome),
        limits=[*map(escape_markdown, limits(outcome)), *warnings],
    )


def loading_text() -> str:
    """How a model is loaded and predicts, in Markdown."""
    return TEMPLATES.get_template("loading.md.j2").render()


def _factors(outcome: Outcome) -> Iterator[str]:
    """Groups and covariates that the model's quality may depend on."""
    data, cohort = outcome.data, outcome.data.cohort
    sides = {side: np.unique(cohort.groups[data.split == side]) for side in SUBSETS}
    counts = ", ".join(f"{len(names)} {side}" for side, names in sides.items())
    yield f"Groups: column {escape_markdown(cohort.group)}; {counts}"
    if sum(map(len, sides.values())) <= MAX_NAMED_GROUPS:
        for side, names in sides.items():
            yield f"Groups of {side}: {', '.join(map(escape_markdown, names))}"
    covariates = ", ".join(map(escape_markdown, [*cohort.numeric, *cohort.categorical]))
    yield f"Covariates that the model is given: {covariates or 'none'}"
    left_out = ", ".join(f"{escape_markdown(k)} ({n})" for k, n in cohort.excluded.items())
    yield f"Labels that were left out, with their samples: {left_out or 'none'}"


def _licence(outcome: Outcome) -> str:
    """As cohort.yaml names it, in either spelling."""
    path = outcome.data.cohort.root / ROLES_FILE
    content: Any = read_cohort_yaml(path) if path.is_file() else None
    described = content if isinstance(content, dict) else {}
    licence = described.get("licence") or described.get("license")
    return escape_markdown(licence) if licence else f"not named ({ROLES_FILE} has no licence)"
