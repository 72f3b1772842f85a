"""Model families and their parameters, as comparisons train them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets.errors import UsageError, nearest
from experiments.config.yaml_text import read_yaml

FAMILIES = Path(__file__).with_suffix(".yaml")


def choose_families(path: Path, wanted: Sequence[str] | None) -> dict[str, dict[str, Any]]:
    """Families and their parameters, all of the file or those that are wanted."""
    try:
        known = read_yaml(path.read_text("utf-8"), str(path))
    except OSError as error:
        raise UsageError(f"--families: cannot read {path}: {error.strerror}") from error
    if not isinstance(known, dict) or not all(isinstance(p, dict) for p in known.values()):
        raise UsageError(f"{path}: expected families with their parameters, such as tft: {{}}")
    for name in wanted or ():
        if name not in known and "." not in name:
            raise UsageError(f"--models: no family is called '{name}'{nearest(name, known)}")
    return {name: known.get(name, {}) for name in wanted or known}
