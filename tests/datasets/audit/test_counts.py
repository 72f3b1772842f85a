from __future__ import annotations

import numpy as np

from datasets.audit import audit


def test_few_samples_of_a_class_on_a_side_are_noted(make_cohort):
    cohort = make_cohort()
    split = np.full(200, "train")
    split[np.flatnonzero(cohort.targets == 1)[:4]] = "val"
    split[np.flatnonzero(cohort.targets == 0)[:30]] = "val"
    split[np.flatnonzero(cohort.targets == 1)[4:24]] = "test"
    split[np.flatnonzero(cohort.targets == 0)[30:60]] = "test"
    found = {one.name: one for one in audit(cohort, split)}
    assert (found["counts:val"].level, found["counts:val"].number) == ("note", 4)
    assert "case 4" in found["counts:val"].sentence
    assert "counts:test" not in found
    assert found["shares:val:case"].number == 4 / 34
    assert "shares:test:case" not in found


def test_a_site_without_a_class_is_noted_where_chance_does_not_explain_it(find):
    def put(files):
        site = np.arange(200) % 4
        site[files.is_case & (site == 3)] = 0
        files.samples["site"] = [f"site {number}" for number in site]
        small = np.full(200, "large")
        small[:2] = "small"
        files.samples["centre"] = small

    found = find(put)
    assert found["table:site"].level == "note"
    assert "site 3 has no case" in found["table:site"].sentence
    assert "table:centre" not in found


def test_values_to_regress_have_no_classes_to_count(find):
    found = find(label="BMI", task="regression")
    assert not [name for name in found if name.startswith(("counts:", "shares:"))]
