from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from engine.attribution import METHODS, attribute
from engine.attribution_samples import Explainer, explain
from engine.errors import UsageError
from tests.engine.attributed import POINTS, SCANS, Weighted, make_batch


def sliced(batch, part):
    names = ("spectra", "mask", "tabular", "target", "sample_id")
    return replace(batch, **{name: getattr(batch, name)[part] for name in names})


def test_each_samples_real_scans_are_kept_in_the_loaders_order():
    model, first, second = Weighted(), make_batch(1), make_batch(2, counts=(2, 3))
    found = explain(model, [first, second], 1, score="logit")
    assert found.sample_id == first.sample_id + second.sample_id
    assert [len(scans) for scans in found.scans] == [*SCANS, 2, 3]
    own = attribute(model, second, 1)
    torch.testing.assert_close(found.scans[-2], own.spectra[0, :2])
    torch.testing.assert_close(found.tabular[-2:], own.tabular)
    assert found.change is not None
    assert found.gap is not None
    torch.testing.assert_close(found.change[-2:], own.change)
    torch.testing.assert_close(found.gap[-2:], own.gap)
    assert found.target.tolist() == [1] * 6
    assert found.intensities is None


@pytest.mark.parametrize("method", METHODS)
def test_how_the_samples_are_batched_changes_nothing(method):
    model, batch = Weighted(), make_batch(1)
    options: dict[str, Any] = {"method": method, "steps": 3, "references": make_batch(9)}
    whole = explain(model, [batch], **options)
    parts = explain(model, [sliced(batch, slice(0, 1)), sliced(batch, slice(1, 4))], **options)
    for one, other in zip(whole.scans, parts.scans, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(whole.tabular, parts.tabular, atol=1e-6, rtol=1e-4)


def test_the_first_batch_is_the_references_of_all():
    model, batches = Weighted(), [make_batch(1), make_batch(2)]
    options: dict[str, Any] = {"method": "gradient_shap", "steps": 3}
    found = explain(model, batches, **options)
    same = explain(model, batches, references=batches[0], **options)
    assert torch.equal(found.scans[-1], same.scans[-1])


def test_no_more_samples_and_no_more_batches_are_asked_for_than_it_takes():
    asked = []

    def loader():
        for seed in range(3):
            asked.append(seed)
            yield make_batch(seed)

    told: list[int] = []
    found = explain(Weighted(), loader(), max_samples=len(SCANS) + 1, progress=told.append)
    assert len(found.sample_id) == len(found.scans) == len(found.target) == len(SCANS) + 1
    assert asked == [0, 1]
    assert sum(told) == len(SCANS) + 1


def test_of_classes_the_log_odds_are_explained_and_of_values_the_output():
    batch = make_batch(1)
    of_classes = explain(Weighted(), [batch])
    assert (of_classes.score, of_classes.outputs) == ("log_odds", 2)
    of_values = explain(Weighted(), [replace(batch, target=torch.zeros(4, 2))], 0)
    assert of_values.score == "logit"
    torch.testing.assert_close(of_values.scans[0], attribute(Weighted(), batch, 0).spectra[0])


def test_the_true_labels_have_no_part():
    batch = make_batch(1)
    found = explain(Weighted(), [batch])
    others = explain(Weighted(), [replace(batch, target=1 - batch.target)])
    assert torch.equal(found.target, others.target)
    assert all(torch.equal(a, b) for a, b in zip(found.scans, others.scans, strict=True))


def test_intensities_are_kept_where_they_are_asked_for():
    batch = make_batch(1)
    found = explain(Weighted(), [batch], keep_intensities=True)
    assert found.intensities is not None
    assert torch.equal(found.intensities[0], batch.spectra[0, : SCANS[0]])
    assert found.intensities[1].shape == (1, POINTS)


def test_nothing_to_explain_is_refused_in_a_line():
    with pytest.raises(UsageError, match="no sample to explain"):
        Explainer(Weighted()).explained()
    with pytest.raises(UsageError, match="max_samples must be a whole number"):
        explain(Weighted(), [make_batch(1)], max_samples=0)
