"""Sentences on intervals: which are not by bootstrap, and which metrics have none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from engine.statistics import CLOPPER_PEARSON, FEWEST_GROUPS, TOO_FEW, Interval


def about_methods(figures: Sequence[Mapping[str, Interval]], task: str) -> list[str]:
    """One sentence per method for intervals that are not by bootstrap.

    Args:
        figures: Of each model: metric -> figure.
        task: A key of ``engine.metrics.TASKS``.

    Example:
        >>> few = Interval(1.0, 0.63, 1.0, 50, "clopper_pearson")
        >>> about_methods([{"recall": few}], "binary")[0].partition(",")[0]
        '95% intervals of recall: Clopper and Pearson (1934)'
    """
    exact, too_few = (_names(figures, method) for method in (CLOPPER_PEARSON, TOO_FEW))
    told = []
    if exact:
        told.append(
            f"95% intervals of {', '.join(exact)}: Clopper and Pearson (1934), each group counted "
            f"as one sample, as there are fewer than {FEWEST_GROUPS} groups or all resamples agree."
        )
    if too_few:
        told.append(about_too_few(too_few, task))
    return told


def about_too_few(names: Iterable[str], task: str) -> str:
    """A sentence on metrics that have no interval for want of samples.

    Args:
        names: Of metrics, at least one.
        task: A key of ``engine.metrics.TASKS``.
    """
    of_class = {"regression": "", "multilabel": " of a label"}.get(task, " of a class")
    return (
        f"No 95% interval of {', '.join(names)}: fewer than {FEWEST_GROUPS} groups{of_class}, or "
        "all resamples agree."
    )


def too_few_of(intervals: Mapping[str, Interval]) -> list[str]:
    """The metrics that have no interval for want of samples."""
    return _names([intervals], TOO_FEW)


def _names(figures: Sequence[Mapping[str, Interval]], method: str) -> list[str]:
    return list(dict.fromkeys(n for own in figures for n, f in own.items() if f.method == method))
