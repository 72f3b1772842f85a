"""Which data a run is of: the cohort's files, what was done to them, and the split."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datasets.cohort import Cohort
from datasets.errors import UsageError
from experiments.run_files.folder import RunFile, is_named

if TYPE_CHECKING:
    from experiments.config import DataConfig

# Enough to tell a lab's cohorts apart, few enough to read out.
DIGITS = 12


@dataclass(frozen=True)
class DataVersion:
    """All that decides what a model is given, but for chance.

    ``files`` are SHA-256 by name; ``preparation`` is what is learned, of which samples, from which
    columns, cleaned how; ``split`` is a digest, empty before it is known.
    """

    cohort: str
    files: Mapping[str, str]
    preparation: Mapping[str, Any]
    split: str = ""

    @property
    def fingerprint(self) -> str:
        """One short name of it all, in hexadecimal digits."""
        return digest([self.files, self.preparation, self.split])[:DIGITS]

    def with_split(self, sample_ids: Sequence[str], split: np.ndarray) -> DataVersion:
        """The same with the split, the subset of each sample [N]."""
        subsets = [f"{name}={subset}" for name, subset in zip(sample_ids, split, strict=True)]
        return replace(self, split=digest(subsets))

    def plain(self) -> dict[str, Any]:
        """In plain types, for ``environment.json``."""
        return {
            "cohort": self.cohort,
            "data": dict(self.files),
            "preparation": dict(self.preparation),
            "split": self.split,
            "fingerprint": self.fingerprint,
        }

    def differences(self, other: DataVersion, prepared: bool = True) -> str:
        """What differs in the files and the preparation, in words; empty for nothing.

        Example:
            >>> before = DataVersion("hcc", {"samples.csv": "1a"}, {"log": [], "group": "g"})
            >>> after = DataVersion("hcc", {"samples.csv": "2b"}, {"log": ["AFP"], "group": "g"})
            >>> after.differences(before)
            'samples.csv and the preparation (log) differ'
        """
        found = _differing(other.files, self.files)
        steps = _differing(other.preparation, self.preparation) if prepared else []
        if steps:
            found.append(f"the preparation ({', '.join(steps)})")
        if not found:
            return ""
        return f"{' and '.join(found)} {'differs' if len(found) == 1 else 'differ'}"


def data_version(settings: DataConfig, cohort: Cohort, files: Mapping[str, str]) -> DataVersion:
    """The version of a cohort before it is split; ``files`` are :meth:`Cohort.fingerprint`'s."""
    preparation = {
        "task": cohort.task,
        "classes": list(cohort.class_names),
        "left_out": dict(cohort.excluded),
        "label": list(cohort.label),
        "group": cohort.group,
        "numeric": list(cohort.numeric),
        "categorical": list(cohort.categorical),
        "log": list(settings.log or ()),
        "missing_indicators": settings.missing_indicators,
        "transforms": [
            {"name": spec, "params": {}} if isinstance(spec, str) else spec.model_dump(mode="json")
            for spec in settings.transforms
            if cohort.has_spectra
        ],
    }
    if settings.covariate_encoding != "standard":  # which earlier versions did not name
        preparation["covariate_encoding"] = settings.covariate_encoding
    return DataVersion(cohort.root.name, dict(files), preparation)


def check_same_data(run_dir: Path, version: DataVersion) -> None:
    """Refuse to continue a run on other files or another preparation; the split is not compared."""
    began = read_version(run_dir)
    found = version.differences(began) if began is not None else ""
    if found:
        raise UsageError(f"{run_dir} cannot be continued on another cohort: {found}")


def changed_cohort(run_dir: Path, exp_name: str, version: DataVersion) -> str | None:
    """A line on a cohort that is not the one of the last run of this name or of this cohort.

    Of a run of this name the preparation counts too; another experiment may well clean otherwise.
    """
    files = run_dir.parent.glob(f"*/{RunFile.ENVIRONMENT}")
    others = [path for path in files if path.parent != run_dir]
    for path in sorted(others, key=lambda path: -path.stat().st_mtime_ns):
        earlier, before = path.parent, read_version(path.parent)
        namesake = is_named(earlier, exp_name)
        if before is None or not (namesake or before.cohort == version.cohort):
            continue
        found = version.differences(before, prepared=namesake)
        return f"the cohort is not the one of {earlier.name}: {found}" if found else None
    return None


def read_version(run_dir: Path) -> DataVersion | None:
    """The version of a run's data; None where it wrote none, or not as it is written now."""
    try:
        values = json.loads((run_dir / RunFile.ENVIRONMENT).read_text("utf-8"))
        return DataVersion(*(values[n] for n in ("cohort", "data", "preparation", "split")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def digest(value: Any) -> str:
    """The SHA-256 of a plain value."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [name for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)]
