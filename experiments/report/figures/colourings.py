"""What the points of a figure can be coloured by: truth, prediction, group, plate, ..."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from engine.metrics import EpochOutputs
from experiments.report.figures.common import PALETTE

# More kinds cannot be told apart; the smaller ones are drawn together.
MOST_KINDS = 12
MOST_TARGETS = 4
SYMBOLS = ("circle", "diamond-open")
OTHERS = "others ({})"
OTHERS_COLOUR = "#999999"
SCALE, MISSES_SCALE = "Viridis", "RdBu_r"


@dataclass(frozen=True)
class Colouring:
    """One property of N samples.

    Attributes:
        name: What it is, in a word or two.
        values: Text [N], object; or numbers [N], float.
        kinds: The different texts in the order of the legend; None of numbers.
        around_zero: Whether numbers have two directions.
    """

    name: str
    values: np.ndarray
    kinds: list[str] | None = None
    around_zero: bool = False

    def style(self, number: int) -> dict[str, str]:
        """Colour and symbol of a kind; they repeat after ``len(PALETTE) * len(SYMBOLS)``."""
        assert self.kinds is not None
        if number >= MOST_KINDS:
            return {"color": OTHERS_COLOUR, "symbol": "circle"}
        turn, colour = divmod(number, len(PALETTE))
        return {"color": PALETTE[colour], "symbol": SYMBOLS[turn % len(SYMBOLS)]}


def colourings(
    outputs: EpochOutputs,
    names: Sequence[str],
    columns: Mapping[str, Sequence[str]] | None = None,
) -> list[Colouring]:
    """All that samples can be coloured by, the truth first.

    Args:
        outputs: Of the samples.
        names: Of the classes, the labels or the regression's targets.
        columns: Further properties in text, one value a sample, such as their group or plate;
            what is the same or different for all of them is left out.
    """
    further = [
        _by_size(name, np.array([str(value) for value in values], dtype=object))
        for name, values in (columns or {}).items()
    ]
    return [*_of_the_task(outputs, names), *(one for one in further if one is not None)]


def _of_the_task(outputs: EpochOutputs, names: Sequence[str]) -> list[Colouring]:
    target, predicted = outputs.target.numpy(), outputs.predictions.numpy()
    if outputs.task == "regression":
        return _of_values(target.astype(float), predicted.astype(float), names)
    if outputs.task == "multilabel":
        right = (target > 0) == (predicted > 0)
        true, said = _label_sets(target > 0, names), _label_sets(predicted > 0, names)
        outcome, kinds = right.all(axis=1), ["all labels right", "some label wrong"]
        order = sorted({*true, *said}, key=lambda text: (len(text.split(" + ")), text))
    else:
        known = np.array(names, dtype=object)
        true, said = known[target], known[predicted]
        outcome, kinds = target == predicted, ["correct", "wrong"]
        order = [str(name) for name in names]
    return [
        Colouring("true label", true, [kind for kind in order if kind in set(true)]),
        Colouring("prediction", said, [kind for kind in order if kind in set(said)]),
        Colouring("correct or wrong", np.where(outcome, *kinds).astype(object), kinds),
    ]


def _of_values(target: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> list[Colouring]:
    found = []
    for number, name in enumerate(names[:MOST_TARGETS]):
        true, said = target[:, number], predicted[:, number]
        found += [
            Colouring(f"true {name}", true),
            Colouring(f"predicted {name}", said),
            Colouring(f"{name}: predicted - true", said - true, around_zero=True),
        ]
    return found


def _label_sets(present: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """What each sample has, in words; by their number where there would be too many sets."""
    sets = [
        " + ".join(n for n, has in zip(names, row, strict=True) if has) or "none" for row in present
    ]
    if 2 ** len(names) > MOST_KINDS:
        sets = [f"{number} labels" for number in present.sum(axis=1)]
    return np.array(sets, dtype=object)


def _by_size(name: str, values: np.ndarray) -> Colouring | None:
    """The largest kinds, and all others as one."""
    counts = Counter(values)
    if len(counts) < 2 or max(counts.values()) == 1:
        return None
    kinds = [kind for kind, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    shown, rest = kinds[:MOST_KINDS], kinds[MOST_KINDS:]
    if rest:
        others = OTHERS.format(len(rest))
        hidden = set(rest)
        values = np.array([others if v in hidden else v for v in values], dtype=object)
        shown = [*shown, others]
    return Colouring(name, values, shown)
