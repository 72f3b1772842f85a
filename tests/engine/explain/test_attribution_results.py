from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from datasets.errors import UsageError
from engine.explain.attribution import explain
from engine.explain.attribution_results import (
    Explained,
    importance_of,
    read_explained,
    write_explained,
)
from tests.engine.attributed import SCANS, Weighted, make_batch


def made(scans, tabular, gap=None):
    count = len(scans)
    names = [f"s{number}" for number in range(count)]
    target = torch.zeros(count).long()
    return Explained("integrated_gradients", names, target, scans, tabular, None, gap)


def test_importance_is_told_by_point_by_covariate_and_by_scan():
    scans = [torch.tensor([[1.0, -2.0], [3.0, 0.0]]), torch.tensor([[-1.0, 4.0]])]
    gap = torch.tensor([0.1, -0.3])
    found = importance_of(made(scans, torch.tensor([[1.0], [-2.0]]), gap))
    assert found.points.tolist() == [2.5, 3.0]
    assert found.signed_points.tolist() == [1.5, 1.0]
    assert found.covariates.tolist() == [1.5]
    assert found.signed_covariates.tolist() == [-0.5]
    # Only one of the two samples has a second scan.
    assert found.scans.tolist() == [4.0, 3.0]
    assert found.signed_scans.tolist() == [1.0, 3.0]
    assert found.samples == 2
    assert found.gap == pytest.approx(0.2)


def test_importance_is_the_mean_over_all_samples():
    model, (one, two) = Weighted(), (make_batch(1), make_batch(2))
    found = importance_of(explain(model, [one, two], 1, score="logit"))
    weights = model.points.weight.detach()[1]
    by_hand = [batch.spectra * weights * batch.mask[..., None] for batch in (one, two)]
    absolute = sum(each.double().abs().sum(dim=(0, 1)) for each in by_hand)
    signed = sum(each.double().sum(dim=(0, 1)) for each in by_hand)
    assert found.samples == 2 * len(SCANS)
    torch.testing.assert_close(found.points, absolute / found.samples, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.signed_points, signed / found.samples, atol=1e-5, rtol=0)


def test_without_covariates_and_without_a_gap_there_are_none():
    found = importance_of(made([torch.ones(1, 3)], torch.zeros(1, 0)))
    assert found.covariates.shape == (0,)
    assert found.gap is None


def test_no_samples_are_refused_in_a_line():
    with pytest.raises(UsageError, match="no sample to explain"):
        importance_of(made([], torch.zeros(0, 2)))


@pytest.fixture
def explained():
    return explain(Weighted(), [make_batch(1), make_batch(2)])


def test_what_is_written_is_read_back(explained, tmp_path):
    named = replace(explained, sample_id=["Zoë", *explained.sample_id[1:]])
    write_explained(named, tmp_path / "report" / "found.safetensors")
    again = read_explained(tmp_path / "report" / "found.safetensors")
    for name, value in vars(named).items():
        other = getattr(again, name)
        if name == "scans":
            assert all(torch.equal(a, b) for a, b in zip(value, other, strict=True))
        elif isinstance(value, torch.Tensor):
            assert torch.equal(value, other)
        else:
            assert value == other
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["found.safetensors"]


def test_a_method_without_a_baseline_leaves_out_what_it_has_not(tmp_path):
    write_explained(explain(Weighted(), [make_batch(1)], method="saliency"), tmp_path / "found")
    again = read_explained(tmp_path / "found")
    assert again.change is None
    assert again.gap is None


def test_any_reader_of_safetensors_finds_its_way(explained, tmp_path):
    write_explained(explained, tmp_path / "found")
    with safe_open(str(tmp_path / "found"), "pt") as file:
        assert file.get_tensor("owner").tolist()[:4] == [0, 0, 0, 1]
        assert len(file.get_tensor("scans")) == 2 * sum(SCANS)
        assert file.metadata()["method"] == "integrated_gradients"


def test_other_files_are_refused_in_a_line(tmp_path):
    with pytest.raises(UsageError, match="cannot be read as attributions"):
        read_explained(tmp_path / "missing")
    (tmp_path / "text").write_text("no tensors")
    with pytest.raises(UsageError, match="cannot be read as attributions"):
        read_explained(tmp_path / "text")
    save_file({"weight": torch.ones(1)}, tmp_path / "weights")
    with pytest.raises(UsageError, match="does not hold attributions"):
        read_explained(tmp_path / "weights")


def test_a_folder_that_cannot_be_made_is_told_in_a_line(explained, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot write"):
        write_explained(explained, tmp_path / "file" / "found")


def test_sets_of_several_outputs_stand_in_one_file(tmp_path):
    batch = make_batch(1)
    batch = replace(batch, target=torch.zeros(len(batch.target), 12))
    model = Weighted(outputs=12)
    sets = [explain(model, [batch], output, steps=2) for output in (1, 11)]
    write_explained(sets, tmp_path / "found", ["a", "b"])
    for one in sets:
        again = read_explained(tmp_path / "found", int(one.target[0]))
        assert torch.equal(again.tabular, one.tabular)
        assert torch.equal(again.target, one.target)
        assert again.change is not None
        assert one.change is not None
        assert torch.equal(again.change, one.change)
        assert all(torch.equal(a, b) for a, b in zip(again.scans, one.scans, strict=True))
    with pytest.raises(UsageError, match="holds several sets; choose an output of 1, 11"):
        read_explained(tmp_path / "found")
    with pytest.raises(UsageError, match="holds no set of output 2; choose"):
        read_explained(tmp_path / "found", 2)
    with safe_open(str(tmp_path / "found"), "pt") as file:
        assert file.metadata()["output_names"] == '["a", "b"]'
        assert {"owner", "scans.1", "scans.11", "target.1", "gap.11"} <= set(file.keys())
