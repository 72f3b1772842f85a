"""What a feature could give away: each class against the rest, each label, the larger values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from datasets.cohort import Cohort


@dataclass(frozen=True, eq=False)
class Contrast:
    """Samples of one kind against all the others.

    Attributes:
        name: Of the kind.
        other: Of the others.
        members: Which samples are of the kind, bool [N].
        target: What whoever tells them apart knows.
    """

    name: str
    other: str
    members: np.ndarray
    target: str = "the label"

    def shares(self, flags: np.ndarray) -> str:
        """Say of how many of each kind something is true, ``flags`` being bool [N].

        Example:
            >>> cases = Contrast("case", "control", np.array([True, True, False, False]))
            >>> cases.shares(np.array([True, False, False, False]))
            '50% of case and 0% of control'
        """
        inside, outside = flags[self.members].mean(), flags[~self.members].mean()
        return f"{inside:.0%} of {self.name} and {outside:.0%} of {self.other}"


def make_contrasts(cohort: Cohort) -> list[Contrast]:
    """List what is to be told apart.

    Two classes are one contrast, more are each against the rest. Of several labels each is one.
    Values to regress are asked as those above their median and the others: an order is given away
    by what tells its halves apart.

    Args:
        cohort: Any.
    """
    names, targets = cohort.class_names, cohort.targets
    if cohort.task == "binary":
        return [Contrast(names[1], names[0], targets == 1)]
    if cohort.task == "multiclass":
        return [
            Contrast(name, "the rest", targets == number, f"the label ({name} against the rest)")
            for number, name in enumerate(names)
        ]
    if cohort.task == "multilabel":
        return [
            Contrast(f"{name}=1", f"{name}=0", targets[:, number] == 1, f"label {name}")
            for number, name in enumerate(names)
        ]
    found = []
    for name, values in zip(names, targets.T, strict=True):
        middle = float(np.median(values))
        above, below = f"{name} above {middle:.4g}", f"{name} up to {middle:.4g}"
        found.append(Contrast(above, below, values > middle, name))
    return found
