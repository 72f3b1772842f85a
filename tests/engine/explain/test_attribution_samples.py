from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from datasets.batches import Batch
from datasets.errors import UsageError
from engine.explain.attribution import (
    MOST_OUTPUTS,
    OutputsExplainer,
    attribute,
    explain,
    explain_outputs,
)
from engine.explain.attribution_options import METHODS
from models import MeanLinear
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


def test_only_the_needed_samples_and_batches_are_read():
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


def test_log_odds_of_classes_and_values_are_explained_by_default():
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
        OutputsExplainer(Weighted()).explained()
    with pytest.raises(UsageError, match="max_samples: a whole number"):
        explain(Weighted(), [make_batch(1)], max_samples=0)


# -- labels and values --------------------------------------------------------------------------


def with_values(batch, outputs):
    return replace(batch, target=torch.zeros(len(batch.target), outputs))


def test_each_label_or_value_is_explained_by_itself():
    model, batches = Weighted(outputs=3), [with_values(make_batch(n), 3) for n in (1, 2)]
    sets = explain_outputs(model, batches, steps=3, keep_intensities=True)
    assert len(sets) == 3
    for output, found in enumerate(sets):
        own = explain(model, batches, output, steps=3)
        assert found.target.tolist() == [output] * len(found.sample_id)
        assert (found.score, found.outputs) == ("logit", 3)
        torch.testing.assert_close(found.tabular, own.tabular)
        torch.testing.assert_close(found.scans[-1], own.scans[-1])
        assert found.intensities is sets[0].intensities is not None


def test_a_label_that_is_never_predicted_is_explained_too():
    class Rarely(Weighted):
        def forward(self, spectra, mask, tabular):
            logits = super().forward(spectra, mask, tabular)["logits"]
            return {"logits": logits - torch.tensor([0.0, 1e4])}

    _, rare = explain_outputs(Rarely(), [with_values(make_batch(1), 2)], steps=3)
    _, often = explain_outputs(Weighted(), [with_values(make_batch(1), 2)], steps=3)
    torch.testing.assert_close(rare.tabular, often.tabular, atol=1e-3, rtol=1e-3)
    assert rare.tabular.abs().sum() > 0


def test_classes_keep_one_set_of_what_is_predicted():
    (found,) = explain_outputs(Weighted(), [make_batch(1)], steps=3)
    own = explain(Weighted(), [make_batch(1)], steps=3)
    assert torch.equal(found.target, own.target)
    assert found.score == "log_odds"


def test_a_named_output_is_explained_alone():
    (found,) = explain_outputs(Weighted(outputs=3), [with_values(make_batch(1), 3)], 2, steps=3)
    assert set(found.target.tolist()) == {2}
    (only,) = explain_outputs(Weighted(outputs=1), [with_values(make_batch(1), 1)], steps=3)
    assert set(only.target.tolist()) == {0}


def test_of_many_outputs_the_first_are_explained():
    many = MOST_OUTPUTS + 2
    sets = explain_outputs(Weighted(outputs=many), [with_values(make_batch(1), many)], steps=2)
    assert [int(one.target[0]) for one in sets] == list(range(MOST_OUTPUTS))
    assert sets[0].outputs == many


def test_nothing_chooses_among_outputs_of_unlike_kind():
    model, batch = Weighted(outputs=3), with_values(make_batch(1), 3)
    for call in (
        lambda: attribute(model, batch),
        lambda: explain(model, [batch]),
    ):
        with pytest.raises(UsageError, match=r"3 labels or values, .* name an output, 0 to 2"):
            call()


def test_progress_counts_each_sample_of_many_outputs_once():
    seen: list[int] = []
    explain_outputs(
        Weighted(outputs=3), [with_values(make_batch(1), 3)], steps=2, progress=seen.append
    )
    assert sum(seen) == len(SCANS)


def test_classes_are_explained_by_log_odds_of_real_scans():
    mask = torch.tensor([[True, False], [True, True]])
    spectra, covariates = torch.randn(2, 2, 8), torch.randn(2, 3)
    batch = Batch(spectra, mask, covariates, torch.tensor([0, 1]), ["a", "b"])
    found = explain(MeanLinear(8), [batch])
    assert found.score == "log_odds"
    assert [tuple(scans.shape) for scans in found.scans] == [(1, 8), (2, 8)]
