"""The audited cohort, its columns by their meaning, and what the checks share."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from datasets.audit.scan_measures import ScanMeasures, measure_scans
from datasets.audit.small_model import Examiner, Prediction, make_contrasts, strongest
from datasets.cohort import SAMPLE_ID

if TYPE_CHECKING:
    from datasets.cohort import Cohort

# Where, when and with what a sample was taken, kept or measured.
BATCH_WORDS = re.compile(
    r"acq|acquisition|analyst|batch|campaign|center|centre|chip|clinic|cohort|country|"
    r"date|day|device|facility|freezer|hospital|injection|instrument|kit|lab|laboratory|"
    r"location|lot|machine|operator|order|plate|position|rack|robot|run|scanner|sequence|"
    r"session|shift|site|slide|spot|station|study|technician|tray|tube|well"
)
# Dates and places of the patient's history, not of the measuring.
STORY_WORDS = re.compile(
    r"birth|born|cancer|death|diagnosed|diagnosis|lesion|metastasis|onset|relapse|surgery|"
    r"tumor|tumour"
)
# Differences by recruitment rather than by the disease.
PERSON_WORDS = re.compile(
    r"age|ancestry|birth|bmi|born|education|ethnic|ethnicity|female|gender|height|male|"
    r"race|sex|smoke|smoker|smoking|weight"
)
# Subjects that several samples may be of.
SUBJECT_WORDS = re.compile(
    r"animal|donor|family|individual|isolate|mouse|participant|patient|patientid|person|"
    r"pid|proband|subject|subjectid|volunteer"
)
# Up to so many different values are categories, more may be numbers.
MOST_CATEGORIES = 10
# Fewer different values than these are no names of subjects.
FEWEST_SUBJECTS = 8
# Looks: a column has two (missing and known values), an order two; besides, the intensity, the
# number of scans and the shift.
LOOKS_A_COLUMN, LOOKS_AN_ORDER, OTHER_LOOKS = 2, 2, 3
# An order that comes and goes, such as controls between two runs of cases, shows in its tenths.
PARTS_OF_ORDER = 10


def is_batch(column: str) -> bool:
    """Whether the name says how, where or when samples were measured (plate, acq_date)."""
    return _has(column, BATCH_WORDS) and not _has(column, STORY_WORDS)


def is_personal(column: str) -> bool:
    """Whether the name is of what people differ in whatever their disease (age, sex)."""
    return _has(column, PERSON_WORDS)


def names_subjects(column: str, values: pd.Series) -> bool:
    """Whether a column identifies the subject a sample was taken from."""
    is_named = _has(column, SUBJECT_WORDS) and not _has(column, PERSON_WORDS)
    return is_named and values.nunique() >= FEWEST_SUBJECTS


def as_order(values: pd.Series) -> np.ndarray | None:
    """Numbers, or alphabetic order, float [N], NaN unknown; None where few values differ."""
    if values.nunique() <= MOST_CATEGORIES:
        return None
    numbers = np.asarray(pd.to_numeric(values, errors="coerce"), dtype=np.float64)
    if (np.isnan(numbers) == values.isna().to_numpy()).all():
        return numbers
    codes = pd.factorize(values, sort=True)[0].astype(np.float64)
    return np.where(codes < 0, np.nan, codes)


def _has(column: str, words: re.Pattern[str]) -> bool:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column)
    return any(words.fullmatch(word.lower()) for word in re.findall(r"[A-Za-z]+", spaced))


class AuditContext:
    """A cohort to audit; the arguments are those of :func:`datasets.audit.audit`.

    ``columns`` are those other than label, group and sample_id; ``batches`` those of how, where or
    when samples were measured, perhaps the group's; ``contrasts`` what could be given away.
    """

    def __init__(self, cohort: Cohort, split: np.ndarray | None, max_scans: int | None) -> None:
        self.cohort, self.split, self.max_scans = cohort, split, max_scans
        apart = {SAMPLE_ID, cohort.group, *cohort.label}
        self.columns = [column for column in cohort.samples.columns if column not in apart]
        self.batches = [column for column in (*self.columns, cohort.group) if is_batch(column)]
        self.contrasts = make_contrasts(cohort)
        looks = LOOKS_A_COLUMN * (len(self.columns) + 1) + OTHER_LOOKS
        looks += LOOKS_AN_ORDER * (len(self.batches) + 1)
        self.examiner = Examiner(self.contrasts, cohort.groups, looks)

    @cached_property
    def scans(self) -> ScanMeasures:
        """Measures of each scan."""
        return measure_scans(self.cohort, self.max_scans)

    def is_covariate(self, column: str) -> bool:
        """Whether the model is given the column."""
        return column in self.cohort.numeric or column in self.cohort.categorical

    def numbers(self, column: str) -> np.ndarray | None:
        """A column's values as numbers, [N]; None where they are categories."""
        if column in self.cohort.numeric:
            return self.cohort.samples[column].to_numpy(dtype=np.float64)
        return None if column in self.cohort.categorical else as_order(self.cohort.samples[column])

    def ask(self, column: str) -> Prediction | None:
        """How well a column's known values separate a contrast."""
        numbers = self.numbers(column)
        if numbers is None:
            return self.examiner.ask_categories(self.cohort.samples[column])
        return self.examiner.ask_numbers(numbers)


def ask_order(examiner: Examiner, order: np.ndarray) -> Prediction | None:
    """Whether late samples, or any tenth of an order [N] (NaN where unknown), differ."""
    tenths = pd.Series(pd.qcut(order, PARTS_OF_ORDER, labels=False, duplicates="drop"))
    return strongest([examiner.ask_numbers(order), examiner.ask_categories(tenths)])
