"""Model families and their parameters, as comparisons train them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets.errors import UsageError, nearest
from experiments.config.schema import ModelConfig
from experiments.config.yaml_text import read_yaml, write_yaml

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


def family_override(model: ModelConfig, name: str, params: Mapping[str, Any]) -> tuple[str, str]:
    """The override that puts a family in place of a model: as many members, on the same path.

    An ensemble lists its members, which a family does not have.
    """
    own: dict[str, Any] = {"name": name, "params": dict(params)}
    if not isinstance(model.members, list):
        own |= {"members": model.members, "linear_path": model.linear_path}
    return "model", write_yaml(own)
