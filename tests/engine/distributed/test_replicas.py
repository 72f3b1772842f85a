from __future__ import annotations

import pytest
import torch
from torch import nn

from datasets.batches import Batch
from engine import EpochMetrics, Evaluator, Trainer, build_optimizer
from engine.distributed.replicas import Replicas, join_rows, split_rows
from engine.losses import CrossEntropy
from engine.model_call import call_model, unwrap_model
from models import MODELS
from tests.models.conftest import batch  # noqa: F401  (a fixture)
from tests.models.small_batch import small_model
from tests.shared_problem import SharedLoader, build_model, largest_difference, weights_of

CPU = torch.device("cpu")
several_gpus = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")


def tensors(outputs):
    """Every tensor of nested outputs, by its path."""
    if isinstance(outputs, torch.Tensor):
        return {"": outputs}
    if isinstance(outputs, dict):
        return {
            f"{key}.{path}": tensor
            for key, value in outputs.items()
            for path, tensor in tensors(value).items()
        }
    return {}


@pytest.mark.parametrize("parts", [2, 3])
@pytest.mark.parametrize("name", MODELS)
def test_parts_joined_are_the_outputs_and_gradients_of_the_whole(name, parts, batch):  # noqa: F811
    model = small_model(name).eval()
    whole = model(*batch.inputs)
    joined = join_rows([model(*part) for part in split_rows(batch.inputs, [CPU] * parts)], CPU)
    expected, found = tensors(dict(whole)), tensors(dict(joined))
    assert found.keys() == expected.keys()
    for path, tensor in expected.items():
        torch.testing.assert_close(found[path], tensor, msg=path)
    gradients = []
    for outputs in (whole, joined):
        model.zero_grad()
        nn.functional.cross_entropy(outputs["logits"], batch.target).backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert largest_difference(*gradients) < 1e-5


def test_parts_differ_by_one_sample_at_most():
    parts = split_rows([torch.arange(7), torch.zeros(7, 2)], [CPU] * 3)
    assert [[len(tensor) for tensor in part] for part in parts] == [[3, 3], [2, 2], [2, 2]]


def test_joined_scalars_are_means_over_samples():
    parts = [
        {
            "logits": torch.zeros(size, 2),
            "penalty": torch.tensor(value),
            "absent": None,
            "pair": [p],
        }
        for size, value, p in ((3, 1.0, torch.zeros(3)), (1, 5.0, torch.ones(1)))
    ]
    joined = join_rows(parts, CPU)
    assert joined["penalty"] == 2.0
    assert joined["absent"] is None
    assert joined["pair"][0].tolist() == [0, 0, 0, 1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_gpus_it_is_the_model_and_is_unwrapped_to_it():
    model = build_model()
    wrapped = Replicas(model, [])
    assert unwrap_model(wrapped) is model
    given = SharedLoader(4)._batch([0, 1, 2])
    torch.testing.assert_close(
        call_model(wrapped, given)["logits"], call_model(model, given)["logits"]
    )


@several_gpus
@pytest.mark.parametrize("samples", [16, 17, 19, 21])
def test_two_gpus_train_as_one_does_with_uneven_batches_too(samples):
    found = []
    for devices in ([0], [0, 1]):
        model = build_model()
        optimizer = build_optimizer(model, "sgd", lr=0.1)
        trainer = Trainer(model, optimizer, CrossEntropy(), "cuda")
        if len(devices) > 1:
            trainer.network = Replicas(trainer.model, devices)
        trainer.fit(SharedLoader(samples, batch_size=8), 3)
        found.append(weights_of(model))
        assert Evaluator(model, CrossEntropy(), EpochMetrics(), "cuda").evaluate(SharedLoader(5))
    assert largest_difference(*found) < 1e-12
    assert found[0].keys() == build_model().state_dict().keys()


@several_gpus
@pytest.mark.parametrize("name", MODELS)
def test_two_gpus_give_the_outputs_of_one(name, batch):  # noqa: F811
    model = small_model(name).cuda().eval()
    inputs = [tensor.cuda() for tensor in batch.inputs]
    expected = tensors(dict(model(*inputs)))
    found = tensors(dict(Replicas(model, [0, 1])(*inputs, scan_rows=None)))
    assert found.keys() == expected.keys()
    for path, tensor in expected.items():
        assert found[path].device == tensor.device
        torch.testing.assert_close(found[path], tensor, atol=1e-4, rtol=1e-4, msg=path)


@several_gpus
def test_dropout_differs_between_the_gpus():
    class Dropped(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, spectra, mask, tabular):
            return {"logits": nn.functional.dropout(self.weight * spectra, 0.5)}

    model = Dropped().cuda()
    inputs = torch.ones(8, 100).cuda(), torch.ones(8, 1).bool().cuda(), torch.zeros(8, 0).cuda()
    first, second = Replicas(model, [0, 1])(*inputs)["logits"].chunk(2)
    assert not torch.equal(first, second)


class Offset(nn.Module):
    """Its offset is its logits."""

    def forward(self, spectra, mask, tabular, scan_rows=None, offset=None):
        return {"logits": offset, "parts": [{"logits": offset}], "seen": scan_rows is None}


def test_each_part_has_its_offsets():
    offset = torch.arange(5.0)[:, None]
    inputs = torch.zeros(5, 1, 3), torch.ones(5, 1, dtype=torch.bool), torch.zeros(5, 0)
    pieces = split_rows((*inputs, offset), [CPU, CPU])
    joined = join_rows([Offset()(*piece[:3], offset=piece[3]) for piece in pieces], CPU)
    assert torch.equal(joined["logits"], offset)
    assert torch.equal(joined["parts"][0]["logits"], offset)


@several_gpus
def test_two_gpus_add_the_offsets_of_the_whole_batch():
    offset = torch.arange(8.0)[:, None]
    mask, names = torch.ones(8, 1, dtype=torch.bool), [str(number) for number in range(8)]
    spectra, tabular, target = torch.zeros(8, 1, 3), torch.zeros(8, 0), torch.zeros(8)
    given = Batch(spectra, mask, tabular, target, names, offset=offset).to("cuda")
    for devices in ([0], [0, 1]):
        model = Offset().cuda()
        network = model if len(devices) == 1 else Replicas(model, devices)
        assert torch.equal(call_model(network, given)["logits"].cpu(), offset)
