"""The model card of a run, after Mitchell et al. 2019, "Model Cards for Model Reporting"."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import yaml

from datasets.cohort import SAMPLES_FILE
from datasets.covariates import MISSING
from datasets.roles import ROLES_FILE, Roles
from datasets.transforms import TRANSFORMS
from engine.metric_tables import read_log
from engine.tasks import CLASSES
from experiments.build_data import SIDES
from experiments.config import Named
from experiments.markdown_text import escape_markdown, fenced
from experiments.outcome import Outcome
from experiments.package import (
    CARD_NAME,
    ENVIRONMENT_NAME,
    PREPROCESSING_NAME,
    WEIGHTS_PATH,
    without_places,
)
from experiments.run_folder import CONFIG_NAME, LOG_NAME
from experiments.yaml_text import write_yaml

# Below so many samples of a class, a metric of a side moves by several hundredths by chance alone:
# the standard error of a sensitivity of 0.8 is 0.06 at 50 samples.
FEW = 50
# Up to 5 % of missing values are held to be of no consequence (Schafer 1999, Stat Methods Med Res).
NOTABLE_MISSING = 0.05
# More groups than these are counted, not named: they are patients rather than sites.
MAX_NAMED_GROUPS = 12
# What the weights were made with; of the other sections none changes what is learned.
SETTINGS = ("model", "loss", "optimizer", "lr_scheduler", "trainer", "ema", "seed")


def model_card(outcome: Outcome) -> str:
    """The card, in Markdown.

    Args:
        outcome: Of a validated and tested run, whose log and environment are in its folder.
    """
    config, data = outcome.config, outcome.data
    environment = json.loads((outcome.run_dir / ENVIRONMENT_NAME).read_text("utf-8"))
    commit = environment["commit"]
    state = f"commit {commit}{', with changes' if environment['dirty'] else ''}" if commit else ""
    began = read_log(outcome.run_dir / LOG_NAME)[0]["time"]
    settings = config.plain()
    chosen = {key: settings[key] for key in SETTINGS} | {
        "data": {key: settings["data"][key] for key in ("transforms", "augmentations")}
    }
    names = ", ".join(map(escape_markdown, data.cohort.class_names))
    # Where nothing was scored there is no best checkpoint.
    scored = (outcome.run_dir / "checkpoints" / "best.pt").is_file()
    best = f"the best {escape_markdown(config.checkpoint.monitor)}"
    chosen_by = best if scored else "the last epoch"
    return f"""# Model card: {escape_markdown(outcome.run_dir.name)}

## Model details

- Version: scanfire {environment["packages"]["scanfire"] or "(not installed)"}\
{f"; {state}" if state else ""}
- Date: {began[:10]} (UTC), when the training began
- Model: {escape_markdown(config.model.name)}, {outcome.parameters:,} trainable parameters
- Task: {data.cohort.task} ({names})
- Training: {outcome.epochs} of {config.trainer.max_epochs} epochs, \
{outcome.optimizer_steps} optimizer steps; the weights are those of {chosen_by}

{fenced(write_yaml(without_places(chosen)), "yaml")}

## Intended use

Research on spectra like those it was trained on: comparing methods, forming hypotheses. It is
not a medical device; no diagnosis, treatment or other decision about a person may rest on it.

## Factors

{_bullets(_factors(outcome))}

## Data

Everything that is fitted (imputation, scaling, categories, spectral statistics) was fitted on
the training part only; a group is never on two sides.

{_bullets(escape_markdown(line) for line in data.describe())}
- Licence of the data: {_licence(outcome)}

## Metrics

The validation side chose the weights, the test side chose nothing; nan means undefined on this
data.

{_metrics(outcome)}

## Limits

{_bullets(_limits(outcome))}

## How to load it

Beside this card, with scanfire's packages importable; `predict` takes the scans of one sample,
float32 [S, {data.cohort.spec_len}], and a one-row table of its covariates, as in {SAMPLES_FILE}.

{fenced(loading_code(outcome), "python")}
"""


def loading_code(outcome: Outcome) -> str:
    """Python that loads the exported weights and defines ``predict``; it runs beside the card.

    Args:
        outcome: Of the run whose configuration, weights and preprocessing it loads.
    """
    cohort, specs = outcome.data.cohort, []
    for spec in outcome.config.data.transforms:
        named = Named(name=spec) if isinstance(spec, str) else spec
        name = json.dumps(named.name)
        if named.name not in TRANSFORMS:  # of the user's own, by its dotted path
            name = f'find_named({name}, {{}}, "data.transforms")'
        specs.append(f'    {{"name": {name}, "params": {named.params!r}}},\n')
    scaler_import, scaler, scores = "", "", 'TASKS[fitted["task"]].scores(logits)'
    if outcome.data.scaler is not None:
        scaler_import = "from datasets.target_scaler import TargetScaler\n"
        scaler = 'scaler = TargetScaler()\nscaler.load_state_dict(fitted["targets"])\n'
        scores = f"scaler.restore({scores})"
    said = "probabilities" if cohort.task != "regression" else "values, in the targets' units"
    return f"""from pathlib import Path

import torch
from safetensors.torch import load_file

from datasets.covariates import CovariateEncoder
{scaler_import}from datasets.transforms import make_transforms
from engine.tasks import TASKS
from experiments.config_source import load_config
from experiments.named import construct, find_named
from models import MODELS

folder = Path(".")  # where {CARD_NAME} is
config = load_config(str(folder / "{CONFIG_NAME}"))
fitted = torch.load(folder / "{PREPROCESSING_NAME}", weights_only=True)
encoder = CovariateEncoder.from_state_dict(fitted["covariates"])
steps = [
{"".join(specs)}]
transforms = make_transforms(steps)
transforms.load_state_dict(fitted["transforms"])
{scaler}
sizes = {{
    "tab_dim": len(encoder.feature_names),
    "spec_len": {cohort.spec_len},
    "num_classes": len(fitted["class_names"]),
}}
model_class = find_named(config.model.name, MODELS, "model.name")
model = construct(model_class, config.model.params, "model.params", sizes)
model.load_state_dict(load_file(folder / "{WEIGHTS_PATH}"))
model.eval()


def predict(scans, covariates):
    \"\"\"Of one sample: {said}, by fitted["class_names"].\"\"\"
    spectra = torch.from_numpy(transforms(scans)).unsqueeze(0)
    mask = torch.ones(spectra.shape[:2], dtype=torch.bool)
    tabular = torch.from_numpy(encoder.transform(covariates))
    with torch.no_grad():
        logits = model(spectra, mask, tabular)["logits"]
    return {scores}[0]
"""


def _bullets(lines: Iterator[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _metrics(outcome: Outcome) -> str:
    results = outcome.results
    rows = [
        f"| {escape_markdown(name)} | {results['val'][name]:.4f} | {results['test'][name]:.4f} |"
        for name in ("loss", *outcome.config.metrics)
    ]
    units = ""
    if outcome.data.scaler is not None:
        names = ", ".join(map(escape_markdown, outcome.data.cohort.class_names))
        units = f"\n\nThe loss is of standardised targets; the metrics are in the units of {names}."
    return "\n".join(["| metric | validation | test |", "|---|---|---|", *rows]) + units


def _factors(outcome: Outcome) -> Iterator[str]:
    """What the model's quality may depend on: groups and covariates."""
    data, cohort = outcome.data, outcome.data.cohort
    column = Roles.choose(cohort.root, None, outcome.config.data.group, None, None).group
    sides = [np.unique(data.cohort.groups[data.split == side]) for side in SIDES]
    counts = ", ".join(f"{len(names)} {side}" for side, names in zip(SIDES, sides, strict=True))
    yield f"Groups: column {escape_markdown(column)}; {counts}"
    if sum(map(len, sides)) <= MAX_NAMED_GROUPS:
        for side, names in zip(SIDES, sides, strict=True):
            yield f"Groups of {side}: {', '.join(map(escape_markdown, names))}"
    covariates = ", ".join(map(escape_markdown, [*cohort.numeric, *cohort.categorical]))
    yield f"Covariates that the model is given: {covariates or 'none'}"
    left_out = ", ".join(f"{escape_markdown(k)} ({n})" for k, n in cohort.excluded.items())
    yield f"Labels that were left out, with their samples: {left_out or 'none'}"


def _limits(outcome: Outcome) -> Iterator[str]:
    """What the numbers do not say; warnings are of what was found in this very data."""
    data, cohort = outcome.data, outcome.data.cohort
    yield (
        f"All samples are of one cohort, {escape_markdown(cohort.root.name)}: the metrics do not "
        "tell how the model does with another instrument, site, protocol or population."
    )
    yield ("One model was measured on one split: another split or seed would give other numbers.")
    yield "Subgroups (by sex, age or site) were not measured each by itself."
    yield "A relation to the target that the model uses need not be a cause of it."
    for side in SIDES[1:]:
        yield from _few(outcome, side)
        undefined = [n for n in outcome.config.metrics if np.isnan(outcome.results[side][n])]
        if undefined:
            yield _warning(f"undefined on the {side} side: {', '.join(undefined)}")
    absent = cohort.samples[[*cohort.numeric, *cohort.categorical]].isna().mean()
    for column, share in absent[absent >= NOTABLE_MISSING].items():
        numeric = column in cohort.numeric
        mark = f"missing({column})" if numeric else f"{column}={MISSING}"
        told = "is" if mark in data.encoder.feature_names else "is not"
        filled = ", filled with the training median" if numeric else ""
        yield _warning(
            f"{escape_markdown(column)} is missing in {share:.0%} of the samples{filled}; the "
            f"model {told} told where"
        )


def _few(outcome: Outcome, side: str) -> Iterator[str]:
    cohort = outcome.data.cohort
    targets = cohort.targets[outcome.data.split == side]
    if cohort.task == "regression":
        counts = {"samples": len(targets)}
    elif cohort.task in CLASSES:
        numbers = np.bincount(targets, minlength=len(cohort.class_names))
        counts = dict(zip(cohort.class_names, numbers, strict=True))
    else:
        counts = dict(zip(cohort.class_names, targets.sum(axis=0), strict=True))
    few = [f"{escape_markdown(name)} {n}" for name, n in counts.items() if n < FEW]
    if few:
        yield _warning(f"fewer than {FEW} on the {side} side: {', '.join(few)}")


def _warning(text: str) -> str:
    return f"**Warning:** {text}."


def _licence(outcome: Outcome) -> str:
    """As cohort.yaml names it, in either spelling."""
    path = outcome.data.cohort.root / ROLES_FILE
    content: Any = yaml.safe_load(path.read_text("utf-8")) if path.is_file() else None
    described = content if isinstance(content, dict) else {}
    licence = described.get("licence") or described.get("license")
    return escape_markdown(licence) if licence else f"not named ({ROLES_FILE} has no licence)"
