"""New samples against the training set: what was changed is found, and nothing else."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

from experiments.analysis import Reference, Share, TrainingSummary
from tests.experiments.prediction.made_samples import (
    CENTRES,
    POINTS,
    check_of,
    drift_of,
    make_samples,
    summarised,
)

SEEDS = 40


@pytest.fixture(scope="module")
def summary():
    return summarised(make_samples(np.random.default_rng(0), 300))


def texts(drift):
    return [str(finding) for finding in drift.findings]


@pytest.mark.slow
@pytest.mark.parametrize(("per_group", "plate"), [(1, 0.0), (3, 0.3), (20, 0.2)])
def test_samples_like_those_of_training_raise_no_alarm(per_group, plate):
    found, marked = [], 0
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        whole = make_samples(rng, 300, per_group=per_group, plate=plate)
        cut = 240
        parts = [
            type(whole)(
                whole.table[of],
                whole.groups[of],
                whole.spectra[of],
                {"case": whole.predicted["case"][of]},
            )
            for of in (slice(0, cut), slice(cut, None))
        ]
        check, outside = check_of(summarised(parts[0]), parts[1])
        found += texts(check.compare(parts[1].predicted))
        marked += sum(map(bool, outside))
    assert len(found) <= 2, found
    assert marked <= SEEDS * 60 // 500


def test_a_shift_of_the_calibration_is_found_where_it_is(summary):
    drift = drift_of(summary, make_samples(np.random.default_rng(1), 60, shift=1.5))
    (told,) = [text for text in texts(drift) if "shifted" in text]
    assert "in 8 of 8 windows of the axis, by +1." in told
    assert "m/z" in told
    apart = [of.difference.new - of.difference.old for of in drift.compared if of.kind == "window"]
    assert apart == pytest.approx([1.5] * 8, abs=0.2)


def test_a_batch_offset_is_found_and_its_samples_are_marked(summary):
    batch = 0.25 * np.sin(np.arange(POINTS) / 20)
    made = make_samples(np.random.default_rng(2), 60, batch=batch)
    assert any("residual" in text for text in texts(drift_of(summary, made)))
    strong = make_samples(np.random.default_rng(2), 60, batch=4 * batch)
    assert check_of(summary, strong)[1] == ["spectrum"] * 60


def test_a_covariate_in_another_unit_is_found(summary):
    made = make_samples(np.random.default_rng(3), 60)
    made.table["AFP"] *= 1000
    (told,) = texts(drift_of(summary, made))
    assert told.startswith("covariate log1p(AFP): median ")
    made.table["AFP"] /= 1e6
    (told,) = texts(drift_of(summary, made))
    assert told.startswith("covariate log1p(AFP): median ")


def test_another_unit_is_found_on_a_plate_after_four_plates():
    rng = np.random.default_rng(11)
    summary = summarised(make_samples(rng, 280, per_group=70, plate=0.3))
    made = make_samples(rng, 70, per_group=70, plate=0.3)
    assert not texts(drift_of(summary, made))
    made.table["age"] /= 10
    assert any(
        text.startswith("covariate age: median 5.") for text in texts(drift_of(summary, made))
    )


def test_values_far_beyond_the_training_range_are_marked(summary):
    made = make_samples(np.random.default_rng(4), 60)
    made.table.loc[[3, 5], "age"] = [720, -200]
    outside = check_of(summary, made)[1]
    assert [n for n, text in enumerate(outside) if text] == [3, 5]
    assert outside[3] == "age"


def test_missing_values_that_rise_are_found(summary):
    made = make_samples(np.random.default_rng(5), 60)
    made.table.loc[np.arange(60) < 30, "AFP"] = np.nan
    (told,) = texts(drift_of(summary, made))
    assert told.startswith("missing values of AFP: 5")
    made.table["AFP"] = np.nan
    (told,) = texts(drift_of(summary, made))
    assert told.startswith("missing values of AFP: 100% here")


def test_other_shares_of_a_category_are_found(summary):
    made = make_samples(np.random.default_rng(6), 60)
    made.table["sex"] = ["m"] * 55 + ["f"] * 5
    assert any(
        text.startswith("category sex=m: 92% here") for text in texts(drift_of(summary, made))
    )


def test_peaks_that_are_gone_are_named(summary):
    made = make_samples(np.random.default_rng(7), 60, gone=[2, 5])
    (told,) = [text for text in texts(drift_of(summary, made)) if "gone" in text]
    assert told.startswith("spectra: 2 of 12 main peaks of the training spectra are gone: m/z ")
    places = [float(place) for place in told.rpartition("m/z ")[2].split(", ")]
    assert places == pytest.approx(1000 + 2 * CENTRES[[2, 5]], abs=4)


def test_another_predicted_rate_is_found(summary):
    (told,) = texts(drift_of(summary, make_samples(np.random.default_rng(8), 60, rate=0.9)))
    assert told.startswith("predicted rate of case: ")
    assert told.endswith("% on the validation set")


def test_one_new_group_of_many_samples_is_no_evidence_where_groups_differ():
    rng = np.random.default_rng(9)
    plates = make_samples(rng, 300, per_group=30, plate=0.8)
    summary = summarised(plates)
    assert summary.spectra is not None
    assert max(of.alike for of in summary.spectra.references.values()) > 0.3
    assert not texts(drift_of(summary, make_samples(rng, 30, per_group=30, plate=0.8)))


def test_the_summary_is_the_same_once_saved(summary):
    file = io.BytesIO()
    torch.save(summary.state_dict(), file)
    file.seek(0)
    again = TrainingSummary.from_state_dict(torch.load(file, weights_only=True))
    made = make_samples(np.random.default_rng(10), 60, shift=1)
    assert texts(drift_of(again, made)) == texts(drift_of(summary, made))


def test_a_reference_of_repeated_samples_counts_groups():
    rng = np.random.default_rng(0)
    own = np.repeat(rng.normal(size=30), 10)
    groups = np.repeat(np.arange(30), 10)
    found = Reference.of(own, groups)
    assert found is not None
    assert found.alike == pytest.approx(1)
    assert found.effective == pytest.approx(30)
    apart = Share.of(rng.random(300) < 0.5, groups)
    assert apart.effective > 150


def test_too_few_training_samples_have_no_components():
    few = make_samples(np.random.default_rng(0), 8)
    assert summarised(few).spectra is None
