"""How well each class, or label, is told from the others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from sklearn.metrics import classification_report

from engine.metrics import EpochOutputs
from experiments.markdown_text import escape_markdown

COLUMNS = ("precision", "recall", "f1-score")
AVERAGES = {"macro avg": "macro average", "weighted avg": "weighted average"}


def class_table(outputs: EpochOutputs, class_names: Sequence[str]) -> str:
    """Precision, recall, F1 and support of each class or label, as a Markdown table.

    NaN where a class neither occurs nor is predicted, or either of them; averages leave it out.

    Args:
        outputs: Of a classification.
        class_names: By class number, or those of the labels.

    Raises:
        ValueError: A regression has no classes.

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
    if outputs.task == "regression":
        raise ValueError("a regression has no classes to report on")
    target, predicted = outputs.target.long().numpy(), outputs.predictions.numpy()
    labels = list(range(len(class_names)))
    if outputs.task == "multilabel" and len(class_names) == 1:
        # A single column is read as two classes, of which the label is the second.
        target, predicted, labels = target[:, 0], predicted[:, 0], [1]
    # By number: a class may be called "accuracy", which is a key of the report's own.
    report: Mapping[str, Mapping[str, float]] = classification_report(
        target,
        predicted,
        labels=labels,
        target_names=[str(number) for number in range(len(class_names))],
        output_dict=True,
        zero_division=math.nan,
    )
    named = {str(number): escape_markdown(name) for number, name in enumerate(class_names)}
    rows = [
        f"| {name} | {' | '.join(f'{report[key][column]:.4f}' for column in COLUMNS)} "
        f"| {report[key]['support']:.0f} |"
        for key, name in (named | AVERAGES).items()
    ]
    head = "| class | precision | recall | F1 | support |\n|---|---|---|---|---|"
    return "\n".join([head, *rows])
