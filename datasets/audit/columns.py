"""What a column of samples.csv is about, as far as its name and its values tell."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

# Where, when and with what a sample was taken, kept or measured.
BATCH_WORDS = re.compile(
    r"acq|acquisition|analyst|batch|campaign|center|centre|chip|clinic|cohort|country|"
    r"date|day|device|facility|freezer|hospital|injection|instrument|kit|lab|laboratory|"
    r"location|lot|machine|operator|order|plate|position|rack|robot|run|scanner|sequence|"
    r"session|shift|site|slide|spot|station|study|technician|tray|tube|well"
)
# Dates and places of the patient's story, not of the measuring.
STORY_WORDS = re.compile(
    r"birth|born|cancer|death|diagnosed|diagnosis|lesion|metastasis|onset|relapse|surgery|"
    r"tumor|tumour"
)
# What people differ in by whom was recruited rather than by the disease.
PERSON_WORDS = re.compile(
    r"age|ancestry|birth|bmi|born|education|ethnic|ethnicity|female|gender|height|male|"
    r"race|sex|smoke|smoker|smoking|weight"
)
# Whom or what several samples may have been taken from.
SUBJECT_WORDS = re.compile(
    r"animal|donor|family|individual|isolate|mouse|participant|patient|patientid|person|"
    r"pid|proband|subject|subjectid|volunteer"
)
# Up to so many different values are categories, more may be numbers.
MOST_CATEGORIES = 10
# Fewer different values than these are no names of subjects.
FEWEST_SUBJECTS = 8


def is_batch(column: str) -> bool:
    """Whether its name says how, where or when samples were measured.

    Example:
        >>> [is_batch(name) for name in ("plateNumber", "acq_date", "date_of_birth", "CRP")]
        [True, True, False, False]
    """
    return _has(column, BATCH_WORDS) and not _has(column, STORY_WORDS)


def is_personal(column: str) -> bool:
    """Whether its name says what people differ in whatever their disease is.

    Example:
        >>> [is_personal(name) for name in ("Sex", "age_years", "AFP")]
        [True, True, False]
    """
    return _has(column, PERSON_WORDS)


def names_subjects(column: str, values: pd.Series) -> bool:
    """Whether it says whom samples were taken from.

    Example:
        >>> names_subjects("patient_id", pd.Series([f"p{n}" for n in range(20)]))
        True
    """
    is_named = _has(column, SUBJECT_WORDS) and not _has(column, PERSON_WORDS)
    return is_named and values.nunique() >= FEWEST_SUBJECTS


def as_order(values: pd.Series) -> np.ndarray | None:
    """Numbers, or the alphabetic order, which is that of dates written year first.

    Args:
        values: Of a column, [N].

    Returns:
        Float [N], NaN where there is no value; None of a column with few different values, which
        are categories.
    """
    if values.nunique() <= MOST_CATEGORIES:
        return None
    numbers = np.asarray(pd.to_numeric(values, errors="coerce"), dtype=np.float64)
    if (np.isnan(numbers) == values.isna().to_numpy()).all():
        return numbers
    codes = pd.factorize(values, sort=True)[0].astype(np.float64)
    return np.where(codes < 0, np.nan, codes)


def _has(column: str, words: re.Pattern[str]) -> bool:
    """Whether one of the words that a column's name is made of is among those."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column)
    return any(words.fullmatch(word.lower()) for word in re.findall(r"[A-Za-z]+", spaced))
