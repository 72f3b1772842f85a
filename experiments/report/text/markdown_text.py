"""Names and the report by class as Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import precision_recall_fscore_support

from engine.metrics import EpochOutputs
from engine.reporting import share_text

# What starts emphasis, code, links, HTML, table cells or entities inside a line (GFM 6.1).
CONTROL = re.compile(r"([\\`*_\[\]<>|~#$&!])")
SHORTEST_FENCE = 3


def escape_markdown(text: object) -> str:
    r"""A text that a Markdown reader shows as it is, in one line.

    Example:
        >>> print(escape_markdown("CRP_max|mg*L"))
        CRP\_max\|mg\*L
    """
    return CONTROL.sub(r"\\\1", " ".join(str(text).split()))


def fenced(text: str, language: str) -> str:
    """A block of code, behind a fence longer than any in the text itself.

    Example:
        >>> print(fenced("a: 1", "yaml"))
        ```yaml
        a: 1
        ```
    """
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(SHORTEST_FENCE, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


HEAD = "| class | precision | recall | F1 | support |\n|---|---|---|---|---|"
# As scikit-learn calls them in a report, and what the Markdown table calls the averages.
FIGURES = ["precision", "recall", "f1-score"]
AVERAGES = {"macro avg": "macro average", "weighted avg": "weighted average"}


def class_figures(outputs: EpochOutputs, class_names: Sequence[str]) -> pd.DataFrame:
    """Precision, recall, F1 and support of each class or label, and their averages.

    Undefined (NaN) is the precision of a class that is never predicted, the recall of one that does
    not occur, the F1 of one that does neither, and a macro average with one of them in it. To the
    weighted average, by support, a class that does not occur adds nothing.

    Returns:
        A row for each class, then ``macro avg`` and ``weighted avg``.

    Raises:
        ValueError: A regression has no classes.
    """
    if outputs.task == "regression":
        raise ValueError("a regression has no classes to report on")
    target, predicted = outputs.target.long().numpy(), outputs.predictions.numpy()
    labels = list(range(len(class_names)))
    if outputs.task == "multilabel" and len(class_names) == 1:
        # A single column is read as two classes, of which the label is the second.
        target, predicted, labels = target[:, 0], predicted[:, 0], [1]
    *shares, support = precision_recall_fscore_support(
        target, predicted, labels=labels, zero_division=math.nan
    )
    of_class = np.stack(shares, axis=1)  # [C, 3]
    occurs = support > 0
    weighted = support[occurs] @ of_class[occurs] / support.sum() if occurs.any() else math.nan
    rows = [*of_class, of_class.mean(axis=0), np.broadcast_to(weighted, of_class.shape[1:])]
    table = pd.DataFrame(rows, index=[*class_names, *AVERAGES], columns=FIGURES)
    total = int(support.sum())
    return table.assign(support=[*(int(number) for number in support), total, total])


def class_table(outputs: EpochOutputs, class_names: Sequence[str]) -> str:
    """:func:`class_figures` as a Markdown table.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
        >>> outputs = EpochOutputs(logits, torch.tensor([0, 1, 1]), ["a", "b", "c"], {})
        >>> print(class_table(outputs, ["control", "case"]))
        | class | precision | recall | F1 | support |
        |---|---|---|---|---|
        | control | 0.5000 | 1.0000 | 0.6667 | 1 |
        | case | 1.0000 | 0.5000 | 0.6667 | 2 |
        | macro average | 0.7500 | 0.7500 | 0.6667 | 3 |
        | weighted average | 0.8333 | 0.6667 | 0.6667 | 3 |
    """
    table = class_figures(outputs, class_names)
    names = [*map(escape_markdown, class_names), *AVERAGES.values()]
    rows = zip(names, table[FIGURES].to_numpy(), table["support"], strict=True)
    return "\n".join([HEAD, *(_row(*row) for row in rows)])


def _row(name: str, shares: np.ndarray, support: int) -> str:
    return f"| {name} | {' | '.join(map(share_text, shares))} | {support} |"
