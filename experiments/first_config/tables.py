"""From what a person has, a folder or a table, to a cohort's folder."""

from __future__ import annotations

import csv
import io
import shlex
from pathlib import Path

from datasets.cohort import SAMPLE_ID, SAMPLES_FILE, SPECTRAL_FILES
from datasets.errors import CohortError, file_errors, nearest
from datasets.files import write_whole
from datasets.readers import POINT, cell_text, read_rows
from experiments.command_line import as_typed

# More columns called by numbers are the points of a spectrum.
MOST_NUMBERED = 20
# Columns of these names, with another value in each row, name the samples.
NAMES = (["sample"], ["name"], ["patient"], ["subject"])


def cohort_of(path: Path) -> Path:
    """The cohort's folder of a folder, of its ``samples.csv``, or of a table of covariates.

    Of a table a folder beside it is made, which must not exist yet. CohortError of anything else.
    """
    if path.name in (SAMPLES_FILE, *SPECTRAL_FILES) and path.is_file():
        return path.parent
    if path.is_file():
        return _from_table(path)
    if not path.is_dir():
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise CohortError(f"there is no {path}{nearest(path.name, sorted(beside))}")
    if not (path / SAMPLES_FILE).is_file():
        to_import = f"{as_typed('import_cohort.py')} {shlex.quote(str(path))} OUT --help"
        raise CohortError(
            f"{path} is no cohort's folder: it has no {SAMPLES_FILE}; a folder of instrument files "
            f"becomes one by: {to_import}"
        )
    return path


def _from_table(path: Path) -> Path:
    """A cohort of covariates alone, beside a table of one row per sample."""
    rows = read_rows(path)
    _, header = next(rows)
    if sum(POINT.fullmatch(name) is not None for name in header) > MOST_NUMBERED:
        words = [str(path), str(path.with_suffix("")), "--format", path.suffix.lstrip(".")]
        raise CohortError(
            f"{path} has spectra in its columns; make a cohort's folder of it first: "
            f"{as_typed('import_cohort.py')} {shlex.join([*words, '--axis', 'own'])}"
            f"{'' if SAMPLE_ID in header else ' --sample-column COLUMN'}"
        )
    table = [[cell_text(cell) for cell in cells] for _, cells in rows]
    ids = next((n for n, name in enumerate(header) if _names_samples(name, n, table)), None)
    if ids is None:
        raise CohortError(
            f"{path}: no column names the samples; one called {SAMPLE_ID}, with another name in "
            f"each row, was expected (columns: {', '.join(header)})"
        )
    header = [SAMPLE_ID if n == ids else name for n, name in enumerate(header)]
    folder = path.with_suffix("")
    with file_errors(f"{folder} cannot be made", CohortError):
        folder.mkdir()
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *table])
    write_whole(text.getvalue().encode(), folder, SAMPLES_FILE)
    return folder


def _names_samples(name: str, number: int, table: list[list[str]]) -> bool:
    """Whether a column has another value in each row, and a name that says so."""
    values = [cells[number] for cells in table]
    words = name.lower().replace("_", " ").split()
    named = name == SAMPLE_ID or words[-1:] == ["id"] or words in NAMES
    return named and all(values) and len(set(values)) == len(values)
