"""Which of two classes is the positive one, class 1: that of recall, precision and AUPRC."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence

import yaml

from datasets.messages import Message

# Words that name the negative class.
_NEGATIVE = """
control controls ctrl ctrls ctl healthy normal normals negative negatives neg benign no none absent
absence false hc nc wt wildtype susceptible unaffected uninfected untreated noncase noncases
"""
NEGATIVE_WORDS = frozenset(_NEGATIVE.split())
# Words that may accompany them.
_BESIDE = "group donor donors volunteer volunteers subject subjects sample samples"
BESIDE = frozenset(_BESIDE.split())
# Abbreviations that mean something only beside their opposite: negative, positive.
PAIRS = (("n", "y"), ("n", "p"), ("f", "t"), ("s", "r"), ("-", "+"))
# Prefixes of a negated word: responder, non-responder.
NEGATIONS = ("no", "non", "not", "without")


def negative_first(labels: Sequence[str]) -> list[str] | None:
    """Put the negative one of two labels first; None where nothing distinguishes them.

    It is the smaller one of two numbers, or named by a word such as ``control``, ``healthy`` or
    ``wild type``; the alphabet does not decide.

    Example:
        >>> negative_first(["control", "case"]), negative_first(["HCC", "healthy"])
        (['control', 'case'], ['healthy', 'HCC'])
        >>> negative_first(["1", "0"]), negative_first(["HCC", "LC"])
        (['0', '1'], None)
    """
    first, second = labels
    for negative, positive in ((first, second), (second, first)):
        if _is_smaller(negative, positive):
            return [negative, positive]
    found = [
        [negative, positive]
        for negative, positive in ((first, second), (second, first))
        if _is_negative(_plain(negative), _plain(positive))
    ]
    return found[0] if len(found) == 1 else None


def labels_text(labels: Sequence[str]) -> str:
    """The value of ``data.labels`` that makes the first of two labels the positive class.

    Example:
        >>> labels_text(["HCC", "LC"]), labels_text(["yes", "a: b"])
        ('{HCC: 1, LC: 0}', '{"yes": 1, "a: b": 0}')
    """
    numbers = {label: 1 - number for number, label in enumerate(labels)}
    plain = yaml.safe_dump(
        numbers, default_flow_style=True, sort_keys=False, allow_unicode=True, width=math.inf
    ).strip()
    return json.dumps(numbers, ensure_ascii=False) if re.search(r"['\"?\\]", plain) else plain


def about_positive(task: str, class_names: Sequence[str]) -> Message:
    """The positive class, in a line for a person; empty for tasks other than binary."""
    if task != "binary" or len(class_names) != 2:
        return Message("")
    negative, positive = class_names
    return Message(
        "positive class: {} (sensitivity, recall, precision, f1 and auprc are of it); negative "
        "class: {}",
        *(positive, negative),
    )


def _plain(label: str) -> str:
    return " ".join(re.split(r"[\s_.,:;()/-]+", label.casefold())).strip() or label


def _is_negative(label: str, other: str) -> bool:
    if (label, other) in PAIRS:
        return True
    joined = label.replace(" ", "")
    if any(joined == word + other.replace(" ", "") for word in NEGATIONS):
        return True
    words = label.replace("wild type", "wildtype").split()
    known = [word in NEGATIVE_WORDS for word in words]
    return any(known) and all(k or w in BESIDE for k, w in zip(known, words, strict=True))


def _is_smaller(label: str, other: str) -> bool:
    try:
        return float(label) < float(other)
    except ValueError:
        return False
