"""Sentences on intervals: which are not by bootstrap, and which metrics have none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from engine.statistics import CLOPPER_PEARSON, FEWEST_GROUPS, TOO_FEW, Interval


def about_methods(figures: Sequence[Mapping[str, Interval]]) -> list[str]:
    """One sentence per method for intervals that are not by bootstrap.

    Args:
        figures: Of each model: metric -> figure.

    Example:
        >>> few = Interval(1.0, 0.63, 1.0, 50, "clopper_pearson")
        >>> about_methods([{"recall": few}])[0].partition(",")[0]
        '95% intervals of recall by Clopper and Pearson (1934)'
        >>> about_methods([{"auroc": Interval(0.8, 0.7, 0.9, 50, "bootstrap")}])
        []
    """
    exact, too_few = (_names(figures, method) for method in (CLOPPER_PEARSON, TOO_FEW))
    told = []
    if exact:
        told.append(
            f"95% intervals of {', '.join(exact)} by Clopper and Pearson (1934), each group "
            f"counted as one sample: they rest on fewer than {FEWEST_GROUPS} groups, or all "
            "resamples agree."
        )
    if too_few:
        told.append(about_too_few(too_few))
    return told


def about_too_few(names: Iterable[str]) -> str:
    """A sentence on metrics that have no interval for want of samples.

    Args:
        names: Of metrics, at least one.
    """
    return (
        f"Too few to tell how far off {', '.join(names)} may be: fewer than {FEWEST_GROUPS} groups "
        "of a class, or all resamples agree."
    )


def too_few_of(intervals: Mapping[str, Interval]) -> list[str]:
    """The metrics that have no interval for want of samples."""
    return _names([intervals], TOO_FEW)


def _names(figures: Sequence[Mapping[str, Interval]], method: str) -> list[str]:
    return list(dict.fromkeys(n for own in figures for n, f in own.items() if f.method == method))
