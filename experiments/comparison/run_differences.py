"""What distinguishes runs: the settings, and the surroundings that they were made in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.run_files import FinishedRun

# Runs are told apart by name; where they lie is no difference.
NAMES = ("exp_name", "runs_dir")
SURROUNDINGS = ("commit", "dirty", "python", "packages", "data")
NOT_THERE = "-"
# As many digits of a commit or a checksum as tell two of them apart.
DIGITS, SHORTEST_DIGEST = 12, 40

Differences = dict[str, list[str]]


def differing_settings(runs: Sequence[FinishedRun]) -> Differences:
    """The keys of the configurations that are not the same in all runs.

    Args:
        runs: At least one.

    Returns:
        Dotted key -> its value in each run as YAML has it, ``-`` where a run has no such key.
    """
    return _differing([_flat({k: v for k, v in r.config.items() if k not in NAMES}) for r in runs])


def differing_surroundings(runs: Sequence[FinishedRun]) -> Differences:
    """The same of the code, the versions and the checksums of the data.

    Args:
        runs: At least one.
    """
    surroundings = ({key: run.environment.get(key) for key in SURROUNDINGS} for run in runs)
    found = _differing([_flat(values) for values in surroundings])
    return {key: [_short(value) for value in values] for key, values in found.items()}


def _differing(flat: Sequence[Mapping[str, str]]) -> Differences:
    keys = dict.fromkeys(key for values in flat for key in values)
    rows = {key: [values.get(key, NOT_THERE) for values in flat] for key in keys}
    return {key: row for key, row in rows.items() if len(set(row)) > 1}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested sections as dotted keys; a list is one value."""
    flat = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            flat[f"{prefix}{key}"] = text
    return flat


def _short(value: str) -> str:
    is_digest = len(value) >= SHORTEST_DIGEST and all(c in "0123456789abcdef" for c in value)
    return value[:DIGITS] if is_digest else value
