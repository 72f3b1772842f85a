from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from datasets.audit.context import as_order, is_batch, is_personal, names_subjects


@pytest.mark.parametrize(
    "name", ["plate", "Plate_No", "acquisitionDate", "site", "run.order", "hospital", "LOT"]
)
def test_names_of_batches_are_known(name):
    assert is_batch(name)


@pytest.mark.parametrize("name", ["plateau", "CRP", "date_of_birth", "tumor_site", "label", "age"])
def test_other_names_are_not_taken_for_batches(name):
    assert not is_batch(name)


def test_what_people_differ_in_is_known_by_name():
    assert all(map(is_personal, ["age", "Sex", "smoking_status", "yearOfBirth"]))
    assert not any(map(is_personal, ["AFP", "stage", "dosage", "average"]))


def test_a_column_of_subjects_has_enough_different_values():
    assert names_subjects("PatientID", pd.Series(range(30)))
    assert not names_subjects("patient_group", pd.Series(["a", "b"] * 15))
    assert not names_subjects("patient_age", pd.Series(range(30)))


def test_dates_and_numbers_are_orders_and_few_values_are_not():
    dates = pd.Series([f"2024-{month:02d}-01" for month in range(12, 0, -1)])
    of_dates = as_order(dates)
    assert of_dates is not None
    assert of_dates.tolist() == list(range(11, -1, -1))
    runs = pd.Series([str(n) for n in range(20)]).where(np.arange(20) != 3)
    order = as_order(runs)
    assert order is not None
    assert np.isnan(order[3])
    assert order[19] == 19
    assert as_order(pd.Series(["a", "b"] * 30)) is None
