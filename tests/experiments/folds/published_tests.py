"""DeLong's test and Holm's correction by their definitions, without the project's own code."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product
from math import erfc, sqrt
from statistics import mean, variance


def delong_p_value(
    first: Sequence[float], second: Sequence[float], positive: Sequence[bool]
) -> float:
    """Of two models' scores of the same samples; equations 3 to 6 of the paper, pair by pair.

    DeLong, DeLong and Clarke-Pearson 1988, "Comparing the Areas under Two or More Correlated
    Receiver Operating Characteristic Curves".
    """
    cases = [row for row, is_case in enumerate(positive) if is_case]
    controls = [row for row, is_case in enumerate(positive) if not is_case]
    # Each pair's part in the difference of the areas: a win counts 1, a tie a half.
    apart = {
        (case, control): _win(first[case], first[control]) - _win(second[case], second[control])
        for case, control in product(cases, controls)
    }
    of_cases = [mean(apart[case, control] for control in controls) for case in cases]
    of_controls = [mean(apart[case, control] for case in cases) for control in controls]
    error = sqrt(variance(of_cases) / len(cases) + variance(of_controls) / len(controls))
    return erfc(abs(mean(apart.values())) / error / sqrt(2))


def _win(case: float, control: float) -> float:
    return 1.0 if case > control else 0.5 if case == control else 0.0


def holm_corrected(p_values: Sequence[float]) -> list[float]:
    """By the closed test that Holm's procedure is a shortcut of.

    A hypothesis is rejected where Bonferroni's test rejects every set of hypotheses that it is in
    (Marcus, Peritz and Gabriel 1976, "On Closed Testing Procedures").
    """
    places = range(len(p_values))
    sets = [of for size in places for of in combinations(places, size + 1)]
    return [
        min(1.0, max(len(of) * min(p_values[n] for n in of) for of in sets if place in of))
        for place in places
    ]
