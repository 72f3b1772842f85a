"""Finished runs side by side, on the samples that all of them were tested on.

The other runs are compared with the first one that is named. It is chosen before the results
are seen; to pick the best on the test set would overstate its lead.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from datasets.errors import UsageError
from engine.metrics import CLASSES, TASKS, by_target, metric_value
from engine.reporting import figure_text
from engine.statistics import (
    FEWEST_GROUPS,
    DeLong,
    Interval,
    McNemar,
    bootstrap_differences,
    bootstrap_intervals,
    delong_test,
    groups_of_rarest,
    mcnemar_test,
)
from experiments.analysis import about_methods, about_too_few, too_few_of
from experiments.config import metric_name
from experiments.run_files import FinishedRun

# A ranking needs one of each kind.
FEWEST_SHARED = 2
RESAMPLES = 1000


@dataclass(frozen=True)
class RunComparison:
    """The result of a comparison.

    ``runs`` are in the order in which they were named, with the outputs of the shared samples, of
    ``groups`` groups; ``tested`` counts the samples of each run's own test set. If those differ,
    all figures are ``recomputed`` on the shared samples. ``metrics`` are all that any of the runs
    was asked for; the task's where there are none. For each run from the second on, ``differences``
    are metric -> its figure minus the first's, ``delong`` tests of the areas under the ROC curves
    (of two classes), ``mcnemar`` of who is right about what (of classes). A reader has to know the
    ``notes``; ``warnings`` cast doubt on the comparison.
    """

    runs: list[FinishedRun]
    tested: list[int]
    recomputed: bool
    metrics: list[str]
    figures: list[dict[str, Interval]]
    differences: list[dict[str, Interval]]
    delong: list[DeLong]
    mcnemar: list[McNemar]
    groups: int
    resamples: int
    notes: list[str]
    warnings: list[str]

    @property
    def task(self) -> str:
        """A key of ``engine.metrics.TASKS``."""
        return self.runs[0].outputs.task

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, the labels or the regression's targets."""
        return self.runs[0].class_names

    @property
    def monitor(self) -> str | None:
        """The metric that the best epochs were chosen by; None where runs differ in it."""
        monitors = {run.monitor for run in self.runs}
        return monitors.pop() if len(monitors) == 1 else None

    @property
    def samples(self) -> int:
        """Number of shared samples."""
        return len(self.runs[0].outputs.sample_id)


def compare_runs(
    runs: Sequence[FinishedRun], resamples: int = RESAMPLES, seed: int = 0
) -> RunComparison:
    """Compare runs with each other."""
    if len(runs) < 2:
        raise UsageError(f"comparing takes two runs or more, {len(runs)} given")
    _check_tasks(runs)
    tested = [len(run.outputs.sample_id) for run in runs]
    # One's own metric is measured of all runs, also where only one was asked for it.
    custom = {name: metric for run in runs for name, metric in run.outputs.custom.items()}
    shared = [
        replace(run, outputs=replace(run.outputs, custom=custom))
        for run in _on_shared_samples(runs)
    ]
    outputs = [run.outputs for run in shared]
    samples = outputs[0].sample_id
    groups = [shared[0].groups[sample] for sample in samples]
    asked_for = dict.fromkeys(name for run in runs for name in run.metric_names)
    metrics = list(asked_for or by_target(TASKS[outputs[0].task].metrics, outputs[0].targets))
    _check_custom_metrics(runs)
    recomputed = any(count != len(samples) for count in tested)
    if recomputed:
        figures = [bootstrap_intervals(o, groups, metrics, resamples, seed=seed) for o in outputs]
    else:  # the runs' own; metrics that a run lacks are computed, without an interval
        figures = []
        for run in shared:
            own = {n: run.test_figure(n) for n in metrics if n in run.metric_names}
            lacking = {n: Interval(metric_value(n, run.outputs)) for n in metrics if n not in own}
            figures.append({n: (own | lacking)[n] for n in metrics})
    comparison = RunComparison(
        runs=shared,
        tested=tested,
        recomputed=recomputed,
        metrics=metrics,
        figures=figures,
        differences=bootstrap_differences(outputs, groups, metrics, resamples, seed=seed),
        delong=_delong_tests(shared, groups),
        mcnemar=_mcnemar_tests(shared),
        groups=len(set(groups)),
        resamples=resamples,
        notes=[],
        warnings=[*_other_data(runs), *_other_groups(shared)],
    )
    return replace(comparison, notes=_notes(comparison))


def _check_tasks(runs: Sequence[FinishedRun]) -> None:
    first = runs[0]
    for run in runs[1:]:
        if run.outputs.task != first.outputs.task:
            raise UsageError(
                f"only runs of one task can be compared: {first.name} is {first.outputs.task}, "
                f"{run.name} is {run.outputs.task}"
            )
        if run.class_names != first.class_names:
            told = (f"{r.name} has {', '.join(r.class_names)}" for r in (first, run))
            what = "classes" if first.outputs.task in CLASSES else "columns"
            raise UsageError(f"only runs of the same {what} can be compared: {'; '.join(told)}")


def _check_custom_metrics(runs: Sequence[FinishedRun]) -> None:
    """Refuse metrics of the user's own that share a name and are not the same."""
    found: dict[str, tuple[object, str]] = {}
    for run in runs:
        for entry in run.config["metrics"]:
            name = metric_name(entry)
            other, owner = found.setdefault(name, (entry, run.name))
            if entry != other:
                raise UsageError(
                    f"the metric '{name}' of {owner} is another than that of {run.name}: "
                    f"{other} and {entry}"
                )


def _on_shared_samples(runs: Sequence[FinishedRun]) -> list[FinishedRun]:
    """The runs with the test samples that all of them have, in the first one's order."""
    rows = [{name: row for row, name in enumerate(run.outputs.sample_id)} for run in runs]
    shared = [name for name in runs[0].outputs.sample_id if all(name in own for own in rows)]
    if len(shared) < FEWEST_SHARED:
        counts = ", ".join(f"{run.name}: {len(own)}" for run, own in zip(runs, rows, strict=True))
        raise UsageError(
            f"all runs have {len(shared)} test samples in common, at least {FEWEST_SHARED} are "
            f"needed ({counts}); runs of the same data.split and seed share theirs"
        )
    taken = [
        replace(run, outputs=run.outputs.take([own[name] for name in shared]))
        for run, own in zip(runs, rows, strict=True)
    ]
    true = taken[0].outputs.target
    for run in taken[1:]:
        differing = (run.outputs.target != true).reshape(len(shared), -1).any(dim=1)
        if differing.any():
            raise UsageError(
                f"sample '{shared[int(differing.nonzero()[0])]}' and {int(differing.sum()) - 1} "
                f"more have another target in {run.name} than in {runs[0].name}: they are of "
                "different cohorts"
            )
    return taken


def _delong_tests(runs: Sequence[FinishedRun], groups: Sequence[str]) -> list[DeLong]:
    first, *others = (run.outputs for run in runs)
    if first.task != "binary":
        return []
    pairs = ((other.scores[:, 1], first.scores[:, 1]) for other in others)
    tests = [delong_test(*pair, first.target) for pair in pairs]
    in_rarest = groups_of_rarest("auroc", first, groups)
    if in_rarest is not None and in_rarest < FEWEST_GROUPS:
        # Its normal approximation takes some samples of each class.
        return [DeLong(test.auc_a, test.auc_b, test.difference) for test in tests]
    return tests


def _mcnemar_tests(runs: Sequence[FinishedRun]) -> list[McNemar]:
    if runs[0].outputs.task not in CLASSES:
        return []
    first, *others = (run.outputs.predicted == run.outputs.target for run in runs)
    return [mcnemar_test(other, first) for other in others]


def _notes(comparison: RunComparison) -> list[str]:
    runs, samples = comparison.runs, comparison.samples
    notes = []
    if comparison.recomputed:
        counts = zip(runs, comparison.tested, strict=True)
        others = ", ".join(f"{run.name}: {n}" for run, n in counts if n != samples)
        notes.append(
            f"The test sets differ ({others}): all figures are recomputed on the {samples} shared "
            "samples and are not those of the runs' own reports."
        )
    if comparison.groups < 2:
        notes.append(
            "All shared samples are of one group: the uncertainty of the figures cannot be "
            "estimated."
        )
    elif comparison.groups < samples and comparison.task in CLASSES:
        notes.append(
            f"The samples are of {comparison.groups} groups. The paired tests treat samples as "
            "independent, so their p-values are too small; the bootstrap resamples whole groups."
        )
    notes.extend(about_methods(comparison.figures, comparison.task))
    apart = dict.fromkeys(n for found in comparison.differences for n in too_few_of(found))
    if apart:
        notes.append(about_too_few([f"the differences in {', '.join(apart)}"], comparison.task))
    not_computed = {n: why for run in runs for n, why in run.not_computed.items()}
    notes.extend(f"{name} is not compared: {why}." for name, why in not_computed.items())
    notes.extend(_best_on_validation(comparison))
    return notes


def _best_on_validation(comparison: RunComparison) -> list[str]:
    """The best run by the validation metric, where runs share one."""
    runs, monitor = comparison.runs, comparison.monitor
    values = [run.validation for run in runs]
    shared = all(run.samples_of("val") == runs[0].samples_of("val") for run in runs)
    one_mode = len({run.mode for run in runs}) == 1
    if monitor is None or not one_mode or not shared or any(math.isnan(value) for value in values):
        return []
    best = max(values) if runs[0].mode == "max" else min(values)
    names = " and ".join(run.name for run, value in zip(runs, values, strict=True) if value == best)
    return [f"Best on validation (choose by this): {names}, {monitor} {figure_text(best)}."]


def _other_data(runs: Sequence[FinishedRun]) -> list[str]:
    first = runs[0]
    expected = first.environment.get("data") or {}
    found = []
    for run in runs[1:]:
        data = run.environment.get("data") or {}
        names = sorted(n for n in {*expected, *data} if expected.get(n) != data.get(n))
        if names:
            found.append(
                f"{run.name} is of another cohort than {first.name}: {', '.join(names)} "
                f"{'differs' if len(names) == 1 else 'differ'}."
            )
    return found


def _other_groups(runs: Sequence[FinishedRun]) -> list[str]:
    first, samples = runs[0], runs[0].outputs.sample_id
    return [
        f"{run.name} has other groups than {first.name}: the bootstrap uses those of {first.name}."
        for run in runs[1:]
        if any(run.groups[sample] != first.groups[sample] for sample in samples)
    ]
