"""What a cohort's numbers are measured in, as far as its `cohort.yaml` says."""

from __future__ import annotations

from pathlib import Path

from datasets.cohort.cohort_yaml import read_cohort_yaml
from datasets.cohort.roles import ROLES_FILE

# What an axis is called whose unit nobody gave; a unit is never guessed.
UNNAMED_AXIS = "axis"


def read_units(folder: str | Path) -> dict[str, str]:
    """Read `units` of cohort.yaml.

    Args:
        folder: The cohort's.

    Returns:
        The unit of the `axis`, of the `spectra` and of covariates by their column, as text; of
        what the file does not speak, nothing. They are only ever shown.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "cohort.yaml").write_text("units: {axis: cm-1, age: years}")
        ...     read_units(folder)
        {'axis': 'cm-1', 'age': 'years'}
    """
    path = Path(folder) / ROLES_FILE
    if not path.is_file():
        return {}
    content = read_cohort_yaml(path)
    units = content.get("units") if isinstance(content, dict) else None
    if not isinstance(units, dict):
        return {}
    return {str(name): str(unit) for name, unit in units.items() if unit is not None}
