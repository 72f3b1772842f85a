from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from datasets.batches import Batch
from datasets.errors import UsageError
from engine import Trainer
from experiments.enhanced_trainer.any_loader import AnyLoader, to_batch

B, S, L, D = 4, 3, 8, 2


def parts(**changes):
    torch.manual_seed(0)
    mask = torch.ones(B, S, dtype=torch.bool)
    mask[1, 2] = False
    own: dict[str, Any] = {
        "spectra": torch.randn(B, S, L),
        "mask": mask,
        "tabular": torch.randn(B, D),
        "label": torch.tensor([0, 1, 1, 0]),
    }
    own.update(changes)
    return {key: value for key, value in own.items() if value is not ...}


def test_dicts_and_tuples_become_the_same_batch():
    from_dict, from_tuple = to_batch(parts(), "x"), to_batch(tuple(parts().values()), "x")
    for name in ("spectra", "mask", "tabular", "target"):
        assert torch.equal(getattr(from_dict, name), getattr(from_tuple, name))
    assert isinstance(from_dict, Batch)
    assert from_dict.target.dtype == torch.long


def test_a_batch_is_passed_on_as_it_is():
    batch = to_batch(parts(), "x")
    assert to_batch(batch, "x") is batch


def test_label_and_target_are_the_same():
    labelled = parts()
    named = {**parts(label=...), "target": labelled["label"]}
    assert torch.equal(to_batch(named, "x").target, to_batch(labelled, "x").target)


def test_without_a_mask_every_scan_is_real():
    for absent in (..., None):
        assert to_batch(parts(mask=absent), "x").mask.all()
    assert not to_batch(parts(), "x").mask.all()


def test_a_mask_of_ones_and_zeros_means_true_and_false():
    for kind in (torch.int64, torch.float32):
        own = parts(mask=parts()["mask"].to(kind))
        assert torch.equal(to_batch(own, "x").mask, parts()["mask"])


def test_arrays_and_lists_are_taken_too():
    own = {key: value.numpy() for key, value in parts().items()}
    own["label"] = [0, 1, 1, 0]
    batch = to_batch(own, "x")
    torch.testing.assert_close(batch.spectra, parts()["spectra"])
    assert batch.target.tolist() == [0, 1, 1, 0]
    double = to_batch(parts(spectra=np.zeros((B, S, L), dtype=np.float64)), "x")
    assert double.spectra.dtype == torch.float32


def test_integers_are_classes_and_floats_are_values():
    assert to_batch(parts(label=torch.tensor([True, False, True, True])), "x").target.tolist() == [
        1,
        0,
        1,
        1,
    ]
    values = to_batch(parts(label=torch.tensor([0.5, 1.0, 2.0, 3.0])), "x").target
    assert (values.dtype, values.shape) == (torch.float32, (B, 1))
    several = to_batch(parts(label=torch.tensor([[0, 1], [1, 1], [0, 0], [1, 0]])), "x").target
    assert (several.dtype, several.shape) == (torch.long, (B, 2))


def test_samples_without_names_are_numbered_in_order():
    ids = [b.sample_id for b in AnyLoader([parts(), parts()], "loader")]
    assert ids == [["0", "1", "2", "3"], ["4", "5", "6", "7"]]
    named = {**parts(), "sample_id": torch.tensor([7, 8, 9, 10])}
    assert to_batch(named, "x").sample_id == ["7", "8", "9", "10"]


def test_a_torch_loader_of_dicts_is_gone_through_again_and_again():
    own = parts()
    samples = [{key: value[i] for key, value in own.items()} for i in range(B)]
    loader = AnyLoader(DataLoader(samples, batch_size=3), "loader")  # type: ignore[arg-type]
    for _ in range(2):
        assert [len(batch) for batch in loader] == [3, 1]
    assert len(loader) == 2


def test_the_epochs_of_an_inner_sampler_are_set():
    class Sampler:
        epoch = None

        def set_epoch(self, epoch):
            self.epoch = epoch

    class Loader(list):  # type: ignore[type-arg]
        batch_sampler = Sampler()

    loader = AnyLoader(Loader([parts()]), "loader")
    loader.batch_sampler.set_epoch(3)
    assert Loader.batch_sampler.epoch == 3


def test_several_labels_become_floats_once_that_is_the_task():
    loader = AnyLoader([parts(label=torch.ones(B, 2, dtype=torch.long))], "loader")
    assert loader.first().target.dtype == torch.long
    loader.task = "multilabel"
    assert loader.first().target.dtype == torch.float32


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (parts(spectra=...), "no key 'spectra'"),
        (parts(label=...), "neither 'target' nor 'label'"),
        ({**parts(), "target": parts()["label"]}, "both 'target' and 'label'"),
        ({**parts(mask=...), "masks": None}, "unknown key 'masks'; did you mean 'mask'?"),
        (parts(spectra=torch.zeros(B, L)), r"spectra\[:, None\]"),
        (parts(tabular=torch.zeros(B)), r"expected \[B, D\]"),
        (parts(mask=torch.ones(B, S + 1, dtype=torch.bool)), r"expected \[B, S\] = \[4, 3\]"),
        (parts(mask=torch.full((B, S), 2)), "True .or 1. for a real scan"),
        (parts(mask=torch.zeros(B, S, dtype=torch.bool)), "sample 0 without a single scan"),
        (parts(label=torch.zeros(B, 1, dtype=torch.long)), r"label\[:, 0\]"),
        (parts(label=torch.full((B, 2), 3)), "must each be 0 or 1"),
        (parts(label=torch.tensor([0.0, float("nan"), 1, 1])), "NaN"),
        (parts(label=torch.tensor([0, 1])), "label 2"),
        (parts(tabular=torch.full((B, D), float("nan"))), "tabular holds NaN"),
        (parts(spectra="spectra.npy"), "expected a tensor or an array"),
        ((1, 2, 3), "3 parts, expected 4"),
        (torch.zeros(3), "expected a Batch, a dict or a tuple"),
    ],
)
def test_what_is_wrong_is_said_in_a_line_that_names_the_batch(item, words):
    with pytest.raises(UsageError, match=words) as error:
        to_batch(item, "train_loader, batch 2")
    assert str(error.value).startswith("train_loader, batch 2: ")
    assert "\n" not in str(error.value)


def test_a_key_that_is_unlike_any_other_is_left_alone():
    assert len(to_batch({**parts(), "hospital": ["a"] * B}, "x")) == B


@pytest.mark.parametrize("loader", [iter([]), (part for part in [1]), 3])
def test_what_cannot_be_gone_through_again_is_refused(loader):
    with pytest.raises(UsageError, match="must have a length"):
        AnyLoader(loader, "train_loader")


def test_an_empty_loader_is_refused():
    with pytest.raises(UsageError, match="val_loader is empty"):
        AnyLoader([], "val_loader")


@pytest.mark.parametrize("label", [2, -1])
def test_a_class_that_the_model_lacks_is_refused(label):
    loader = AnyLoader([parts(), parts(label=torch.tensor([0, 1, label, 0]))], "train_loader")
    loader.num_classes = 2
    with pytest.raises(UsageError, match=f"batch 1: label {label}, .* classes 0 to 1"):
        list(loader)


def test_converting_leaves_the_users_own_batch_alone():
    batch = to_batch(parts(label=torch.ones(B, 2, dtype=torch.long)), "x")
    loader = AnyLoader([batch], "loader")
    loader.task = "multilabel"
    list(loader)
    assert batch.target.dtype == torch.long
    assert replace(batch).target is batch.target


def test_further_targets_reach_the_loss_of_a_model():
    seen = []

    class WithLoss(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(4, 2)

        def forward(self, spectra, mask, tabular):
            return {"logits": self.head(spectra.mean(dim=1))}

        def compute_loss(self, outputs, targets, aux):
            seen.append(aux["spec"].tolist())
            return {"total_loss": torch.nn.functional.cross_entropy(outputs["logits"], targets)}

    item = {
        "spectra": torch.ones(2, 1, 4),
        "tabular": torch.zeros(2, 1),
        "label": torch.tensor([0, 1]),
        "aux": {"spec": torch.tensor([1, 1])},
    }
    model = WithLoss()
    trainer = Trainer(model, torch.optim.SGD(model.parameters(), 0.1), model.compute_loss)
    trainer.fit(AnyLoader([item], "train_loader"), 1)
    assert seen == [[1, 1]]


@pytest.mark.parametrize(
    ("aux", "line"),
    [([1, 1], "aux is a list, expected a dict"), ({"spec": [1]}, "aux.spec 1")],
)
def test_further_targets_that_do_not_fit_are_refused(aux, line):
    item = {"spectra": torch.ones(2, 1, 4), "tabular": torch.zeros(2, 1), "label": [0, 1]}
    with pytest.raises(UsageError, match=line):
        list(AnyLoader([{**item, "aux": aux}], "train_loader"))
