"""The model card of a run, after Mitchell et al. 2019, "Model Cards for Model Reporting"."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from datasets.cohort import ROLES_FILE, SAMPLES_FILE, Roles, read_cohort_yaml
from datasets.splits import SUBSETS
from datasets.transforms import TRANSFORMS
from engine.metrics import LAST_EPOCH
from engine.reporting import figure_text, figure_texts, read_log
from experiments.analysis import Outcome, finding_number
from experiments.baselines import leaderboard_section
from experiments.config import ComponentConfig, write_yaml
from experiments.report.text.decision_text import calibration_section, chosen_points
from experiments.report.text.limit_text import limits, warnings_of
from experiments.report.text.markdown_text import escape_markdown, fenced
from experiments.run_files import (
    CARD_NAME,
    CONFIG_NAME,
    ENVIRONMENT_NAME,
    LOG_NAME,
    PREPROCESSING_NAME,
    WEIGHTS_PATH,
    without_places,
)

# More groups than these are counted, not named: they are patients rather than sites.
MAX_NAMED_GROUPS = 12
# What the weights were made with; of the other sections none changes what is learned.
SETTINGS = ("model", "loss", "optimizer", "lr_scheduler", "trainer", "ema", "seed")


def model_card(outcome: Outcome) -> str:
    """The card, in Markdown."""
    config, data = outcome.config, outcome.data
    environment = json.loads((outcome.run_dir / ENVIRONMENT_NAME).read_text("utf-8"))
    commit = environment["commit"]
    state = f"commit {commit}{', with changes' if environment['dirty'] else ''}" if commit else ""
    began = read_log(outcome.run_dir / LOG_NAME)[0]["time"]
    settings = config.resolved()
    chosen = {key: settings[key] for key in SETTINGS} | {
        "data": {key: settings["data"][key] for key in ("transforms", "augmentations")}
    }
    names = ", ".join(map(escape_markdown, data.cohort.class_names))
    # Where nothing was scored there is no best checkpoint.
    scored = (outcome.run_dir / "checkpoints" / "best.pt").is_file()
    best = f"the best {escape_markdown(config.checkpoint.monitor)}"
    selected = scored and config.checkpoint.monitor != LAST_EPOCH
    chosen_by = best if selected else "the last epoch"
    training, fitted_on = "the weights are those of", "the training set only"
    if outcome.selected_test:
        training = "a refit on the training and validation sets, as long as up to"
        fitted_on = "the training and validation sets only"
    return f"""# Model card: {escape_markdown(outcome.run_dir.name)}

## Model details

- Version: scanfire {environment["packages"]["scanfire"] or "(not installed)"}\
{f"; {state}" if state else ""}
- Date: {began[:10]} (UTC), when the training began
- Model: {escape_markdown(config.model.name)}, {outcome.parameters:,} trainable parameters
- Task: {data.cohort.task} ({names})
- Training: {outcome.epochs} of {config.trainer.max_epochs} epochs, \
{outcome.optimizer_steps} optimizer steps; {training} {chosen_by}

{fenced(write_yaml(without_places(chosen)), "yaml")}

## Intended use

Research on spectra like those it was trained on: comparing methods, forming hypotheses. It is
not a medical device; no diagnosis, treatment or other decision about a person may rest on it.

## Factors

{_bullets(_factors(outcome))}

## Data

Everything that is fitted (imputation, scaling, categories, spectral statistics) was fitted on
{fitted_on}; no group is in two subsets.

{_bullets(escape_markdown(line) for line in data.describe())}
- Licence of the data: {_licence(outcome)}

{_audit(outcome)}

## Metrics

The weights were chosen on the validation set; nothing was chosen on the test set. Undefined
and nan: the figure cannot be computed on these data.

{_metrics(outcome)}
{_baselines(outcome)}{_decisions(outcome)}
## Limits

{_bullets(_limits(outcome))}

## How to load it

Beside this card, with scanfire's packages importable; `predict` takes {_taken(outcome)}.
{_about_predict(outcome)}
{fenced(loading_code(outcome), "python")}
"""


def loading_code(outcome: Outcome) -> str:
    """Python that loads the exported weights and defines ``predict``; it runs beside the card."""
    cohort, specs = outcome.data.cohort, []
    for spec in outcome.config.data.transforms if cohort.has_spectra else ():
        named = ComponentConfig(name=spec) if isinstance(spec, str) else spec
        name = json.dumps(named.name)
        if named.name not in TRANSFORMS:  # of the user's own, by its dotted path
            name = f'find_named({name}, {{}}, "data.transforms")'
        specs.append(f'    {{"name": {name}, "params": {named.params!r}}},\n')
    scaler_import, scaler, scores = "", "", 'TASKS[fitted["task"]].scores(logits)'
    if outcome.data.scaler is not None:
        scaler_import = "from datasets.cohort.targets import TargetScaler\n"
        scaler = 'scaler = TargetScaler()\nscaler.load_state_dict(fitted["targets"])\n'
        scores = f"scaler.restore({scores})"
    given, spectra = "scans, covariates", "torch.from_numpy(transforms(scans)).unsqueeze(0)"
    if not cohort.has_spectra:
        given, spectra = "covariates", "torch.zeros(1, 1, 0)  # there are none"
    said = "probabilities" if cohort.task != "regression" else "values, in the targets' units"
    return f"""from pathlib import Path

import torch
from safetensors.torch import load_file

from datasets.covariates import CovariateEncoder
{scaler_import}from datasets.transforms import make_transforms
from engine.metrics.tasks import TASKS
from experiments.config.source import load_config
from experiments.config.components import construct, find_named
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
    "spec_len": transforms.spec_len,
    "num_classes": len(fitted["class_names"]),
}}
model_class = find_named(config.model.name, MODELS, "model.name")
model = construct(model_class, config.model.params, "model.params", sizes)
model.load_state_dict(load_file(folder / "{WEIGHTS_PATH}"))
model.eval()


def predict({given}):
    \"\"\"Of one sample: {said}, by fitted["class_names"].\"\"\"
    spectra = {spectra}
    mask = torch.ones(spectra.shape[:2], dtype=torch.bool)
    tabular = torch.from_numpy(encoder.transform(covariates))
    with torch.no_grad():
        logits = model(spectra, mask, tabular)["logits"]
    return {scores}[0]
"""


def _taken(outcome: Outcome) -> str:
    """The input of the code."""
    cohort = outcome.data.cohort
    table = f"a one-row table of its covariates, as in {SAMPLES_FILE}"
    if not cohort.has_spectra:
        return f"of one sample {table}"
    return f"the scans of one sample,\nfloat32 [S, {cohort.spec_len}], and {table}"


def _about_predict(outcome: Outcome) -> str:
    found = outcome.findings
    if not found.decisions:
        return ""
    divided = " are not divided by the temperature and" if found.calibration else ""
    return f"Its probabilities are the model's own: they{divided} are not cut at a threshold.\n"


def _limits(outcome: Outcome) -> Iterator[str]:
    yield from map(escape_markdown, limits(outcome))
    for told in warnings_of(outcome):
        yield f"**Warning:** {escape_markdown(told)}."


def _bullets(lines: Iterator[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _metrics(outcome: Outcome) -> str:
    results, sure = outcome.results, bool(outcome.intervals)
    head = ["metric", "validation", "test", *(["95% interval of test"] if sure else [])]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name in ("loss", *outcome.config.metric_names):
        value = figure_texts(outcome.test_interval(name)).value
        cells = [escape_markdown(name), figure_text(results["val"][name]), value]
        if sure:  # a loss has none
            cells.append(outcome.interval_text(name) or ("" if name == "loss" else "undefined"))
        lines.append(f"| {' | '.join(cells)} |")
    about = f"{escape_markdown(outcome.about_positive())} {outcome.about_intervals()}"
    if outcome.data.scaler is not None:
        names = ", ".join(map(escape_markdown, outcome.data.cohort.class_names))
        about += f" The loss is of standardised targets; the metrics are in the units of {names}"
        several = len(outcome.data.cohort.class_names) > 1
        about += ", each by itself; r2 is the mean over them." if several else "."
    return "\n".join(lines) + (f"\n\n{about.strip()}" if about.strip() else "")


def _baselines(outcome: Outcome) -> str:
    found = outcome.leaderboard
    return f"\n{leaderboard_section(found)}" if found else ""


def _decisions(outcome: Outcome) -> str:
    """On thresholds and calibration, where there are probabilities to decide by."""
    found = outcome.findings
    if not found.decisions:
        return ""
    return f"""
### Decision threshold

{chosen_points(found.decisions)}

### Calibration

{calibration_section(found.calibration, outcome.data.cohort.task)}
"""


def _audit(outcome: Outcome) -> str:
    """The audit's findings as a Markdown table."""
    if not outcome.config.audit.enabled:
        return "The data were not audited before the training."
    if not outcome.audit:
        return "The audit before the training found nothing."
    rows = [
        f"| {found.level}{', accepted' if found.accepted else ''} | {finding_number(found)} "
        f"| {escape_markdown(found.sentence)} |"
        for found in outcome.audit
    ]
    head = "| level | AUROC or number | the audit before the training found |\n|---|---|---|"
    return "\n".join([head, *rows])


def _factors(outcome: Outcome) -> Iterator[str]:
    """Groups and covariates that the model's quality may depend on."""
    data, cohort = outcome.data, outcome.data.cohort
    column = Roles.choose(cohort.root, None, outcome.config.data.group, None, None).group
    sides = [np.unique(data.cohort.groups[data.split == side]) for side in SUBSETS]
    counts = ", ".join(f"{len(names)} {side}" for side, names in zip(SUBSETS, sides, strict=True))
    yield f"Groups: column {escape_markdown(column)}; {counts}"
    if sum(map(len, sides)) <= MAX_NAMED_GROUPS:
        for side, names in zip(SUBSETS, sides, strict=True):
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
