"""What is computed beside the predictions of a cohort, on request or where its labels allow it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datasets.cohort import SAMPLE_ID, UNNAMED_AXIS
from datasets.errors import UsageError, refused
from engine.reporting import figure_text, metric_message, share_text, with_bounds
from experiments.analysis import TrainingSummary, predicted_values
from experiments.prediction.conformal import calibrate_sets
from experiments.prediction.drift import (
    FAR_OUTSIDE,
    NO_SUMMARY,
    Drift,
    DriftCheck,
    SpectraMeasures,
)
from experiments.prediction.external_validation import (
    IN_THE_LARGE,
    SLOPE,
    check_prevalence,
    headline,
    validate,
)
from experiments.prediction.held_out import (
    calibration_samples,
    carried_points,
    internal_samples,
    trained_samples,
)
from experiments.prediction.placed_scans import placed_scans
from experiments.prediction.prediction_file import require_free
from experiments.prediction.predictor import MEAN_BYTES
from experiments.runs import SUMMARY

if TYPE_CHECKING:
    from experiments.prediction.external_validation import Validation
    from experiments.prediction.fitted import NewCohort
    from experiments.prediction.loaded_model import LoadedModel
    from experiments.prediction.prediction_file import Columns
    from experiments.prediction.predictions import Predictions

# Samples whose shifts and peaks are measured, spread over the cohort.
MOST_PLACED = 2000


@dataclass(frozen=True)
class Asked:
    """What is asked for beside predictions.

    ``coverage`` is of prediction sets, ``prevalence`` that of the positive class where the model
    will be used, ``explain`` a number of samples, ``report`` the file of a page; None for none.
    """

    coverage: float | None = None
    prevalence: float | None = None
    explain: int | None = None
    report: Path | None = None


class Analyses:
    """What a command line asks for of one cohort: further columns, lines for a person, a page.

    All that cannot be done is refused when it is made, before anything is predicted or written.
    """

    def __init__(self, model: LoadedModel, new: NewCohort, asked: Asked) -> None:
        self.model, self.new, self.asked = model, new, asked
        self.marked: list[str] = []
        self.measures: SpectraMeasures | None = None
        if asked.report is not None:
            require_free(asked.report, "--report")
        if asked.explain is not None:
            if asked.report is None:
                raise UsageError("--explain draws on a page: name its file by --report")
            from experiments.prediction.explain import check_explainable  # imports Plotly

            check_explainable(model, new, asked.explain)
        if asked.prevalence is not None:
            check_prevalence(asked.prevalence, model.task)
            if new.targets is None:
                raise UsageError("--prevalence: the cohort has no labels to validate the model by")
        # Read now: a file that is damaged must not be found when predictions are written.
        self.trained = trained_samples(model)
        self.points = carried_points(model)
        self.internal = None if new.targets is None else internal_samples(model)
        self.held_out = self.sets = None
        if asked.coverage is not None:
            reads = set(model.predictors[0].reads)
            absent = reads.intersection(new.absent)
            if absent:
                raise UsageError(
                    "--coverage: prediction sets are calibrated on samples with "
                    f"{' and '.join(sorted(reads))}; the cohort has no {' and '.join(absent)}"
                )
            self.held_out = calibration_samples(model)
            of = self.held_out
            self.sets = calibrate_sets(of.outputs, of.groups, model.class_names, asked.coverage)
        summary = self.summary
        if summary is not None and summary.spectra is not None and "spectra" not in new.absent:
            samples = len(new.cohort.sample_ids)
            wanted = np.zeros(samples, dtype=bool)
            spread = np.linspace(0, samples - 1, min(samples, MOST_PLACED))
            wanted[spread.astype(np.int64)] = True
            self.measures = SpectraMeasures(summary.spectra, wanted)

    @cached_property
    def summary(self) -> TrainingSummary | None:
        """That of the training set; None where an earlier version exported the model."""
        state = self.model.fitted.plain.get(SUMMARY)
        if state is None:
            return None
        damage = f"{self.model.files.where}: the training summary is not as a run writes it"
        with refused(damage, KeyError, TypeError, ValueError, AttributeError):
            return TrainingSummary.from_state_dict(state)

    @property
    def columns(self) -> list[Columns]:
        """Functions of a block's predictions to further columns; blocks come in their order."""
        found: list[Columns] = []
        if self.sets is not None:
            sets = self.sets
            found.append(lambda predicted: sets.columns(predicted.outputs.scores.numpy()))
        return [*found, self._mark] if self.summary is not None else found

    def _mark(self, predicted: Predictions) -> Mapping[str, Any]:
        rows = np.arange(len(self.marked), len(self.marked) + len(predicted))
        found = self._check().far_outside(rows, self._measure(rows))
        self.marked += found
        return {FAR_OUTSIDE: found}

    def _measure(self, rows: np.ndarray) -> np.ndarray | None:
        """Which of these samples have a spectrum far outside, bool [n]."""
        if self.measures is None:
            return None
        dataset = self.model.fitted.dataset(self.new, rows)
        size = max(1, dataset.spec_len) * np.dtype(np.float32).itemsize
        step = max(1, MEAN_BYTES // size)
        found = []
        for start in range(0, len(rows), step):
            part = np.arange(start, min(start + step, len(rows)))
            wanted = rows[part][self.measures.wanted[rows[part]]]
            placed = placed_scans(self.model, self.new, wanted) if len(wanted) else None
            found.append(self.measures.add(dataset.mean_scans(part), placed))
        return np.concatenate(found)

    def _check(self, measured: Mapping[str, np.ndarray] | None = None) -> DriftCheck:
        assert self.summary is not None
        plain, cohort = self.model.fitted.plain, self.new.cohort
        return DriftCheck(
            self.summary,
            cohort.samples,
            cohort.groups,
            self.model.fitted.transforms.axis,
            (plain.get("units") or {}).get("axis", UNNAMED_AXIS),
            measured or {},
            "covariates" not in self.new.absent,
        )

    def conclude(self, predictions: Predictions) -> Iterator[str]:
        """Compare, validate, explain and write the page; yields lines for a person."""
        measured = {} if self.measures is None else self.measures.values()
        drift: Drift | str = NO_SUMMARY
        if self.summary is not None:
            names = self.model.class_names
            drift = self._check(measured).compare(
                dict(predicted_values(predictions.outputs, names))
            )
        again = len(self.trained.intersection(predictions.sample_ids))
        if again:
            yield (
                f"{again} samples have the names of samples that the model was trained on; if they "
                "are the same, it predicts them better than new ones"
            )
        marked = np.array([bool(text) for text in self.marked] or [False] * len(predictions))
        yield from about_drift(drift, marked)
        if self.sets is not None:
            yield from self.sets.notes
        external, internal, source = self._validate(predictions)
        if external is not None:
            yield from about_validation(external, internal, source)
        if self.asked.report is None:
            return
        from experiments.prediction.explain import explain_samples  # import Plotly
        from experiments.prediction.prediction_page import PredictionPage, write_prediction_page

        fitted = self.model.fitted
        explained = scans = None
        if self.asked.explain is not None:
            explained = explain_samples(self.model, self.new, predictions, self.asked.explain)
            rows = np.arange(len(explained.outputs.sample_id))
            scans = placed_scans(self.model, self.new, rows)
        page = PredictionPage(
            name=fitted.config.exp_name,
            model=str(self.model.where),
            language=fitted.config.report.language,
            predictions=predictions,
            drift=drift,
            marked=marked,
            outside=measured,
            spectra=None if self.measures is None else self.measures.summary,
            sets=self.sets,
            calibrated_on=self.held_out.source if self.held_out else "",
            external=external,
            internal=internal,
            internal_source=source,
            explained=explained,
            scans=scans,
        )
        yield f"page: {write_prediction_page(self.asked.report, page)}"

    def _validate(
        self, predictions: Predictions
    ) -> tuple[Validation | None, Validation | None, str]:
        """Of the labelled samples, of the run's own test set, and what that is."""
        labelled = predictions.labelled
        if not len(labelled):
            return None, None, ""
        fitted = self.model.fitted
        left_out = [SAMPLE_ID, *(fitted.plain.get("label") or [])]
        table = self.new.cohort.samples.iloc[labelled].drop(columns=left_out, errors="ignore")
        resamples = fitted.config.report.resamples
        shared = (self.model.class_names, self.points, self.asked.prevalence)
        external = validate(
            predictions.outputs.take(labelled.tolist()),
            predictions.groups[labelled].tolist(),
            *shared,
            table,
            resamples,
        )
        held_out = self.internal
        if held_out is None:
            return external, None, ""
        internal = validate(held_out.outputs, held_out.groups, *shared, resamples=resamples)
        return external, internal, held_out.source


def about_drift(drift: Drift | str, marked: np.ndarray) -> Iterator[str]:
    """A line for each finding, and one for samples far outside."""
    if isinstance(drift, str):
        yield drift
        return
    yield from (f"drift: {finding}" for finding in drift.findings)
    if marked.any():
        count = int(marked.sum())
        yield (
            f"drift: {count} of {len(marked)} samples far outside of the training set (column "
            f"{FAR_OUTSIDE})"
        )


def about_validation(
    external: Validation, internal: Validation | None, source: str
) -> Sequence[str]:
    """Headline, calibration and operating point in a few lines."""
    metric = headline(external.outputs)
    lines = [
        f"external validation: {len(external.groups)} labelled samples (groups: "
        f"{len(set(external.groups))}), {metric_message(metric)} "
        f"{with_bounds(external.metrics[metric])}"
    ]
    if internal is not None:
        lines[0] += f"; {with_bounds(internal.metrics[metric])} on {source}"
    for name, figures in external.calibration.items():
        both = (f"{part} {with_bounds(figures[part])}" for part in (IN_THE_LARGE, SLOPE))
        lines.append(f"{name}: {', '.join(both)}")
    for point in external.points:
        figures_told = ", ".join(f"{n} {with_bounds(f)}" for n, f in point.figures.items())
        lines.append(
            f"{point.name}: at the threshold {figure_text(point.threshold)} of training "
            f"({point.rule}), prevalence {share_text(point.prevalence, 3)}: {figures_told}"
        )
    return lines
