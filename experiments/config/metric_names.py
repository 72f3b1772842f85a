"""Names of metrics in a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.config.section import ComponentConfig

# An entry of ``metrics`` in a configuration; a mapping where it is read from a file of a run.
Entry = str | ComponentConfig | Mapping[str, Any]


def metric_name(entry: Entry) -> str:
    """What a metric is called in logs, tables and pages: the last part of a dotted path.

    Example:
        >>> metric_name("auroc"), metric_name("my_package.scores.net_benefit")
        ('auroc', 'net_benefit')
        >>> metric_name("recall_at_fpr@0.05")
        'recall_at_fpr@0.05'
    """
    name = split_entry(entry)[0]
    return name.rpartition(".")[2] if is_path(name) else name


def split_entry(entry: Entry) -> tuple[str, Mapping[str, Any]]:
    """Name and parameters."""
    if isinstance(entry, str):
        return entry, {}
    if isinstance(entry, ComponentConfig):
        return entry.name, entry.params
    return str(entry["name"]), entry.get("params") or {}


def is_path(name: str) -> bool:
    """Whether it is a dotted path to a metric of a user's own."""
    return "." in name.partition("@")[0]
