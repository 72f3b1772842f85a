"""What is exported, what is refused, and what is left behind."""

from __future__ import annotations

import re
import shutil
from typing import Any

import onnxruntime
import pytest
import torch
from torch import nn

from experiments.exporting import export_model
from tests.experiments.exporting.made_models import SPECTRA_BRANCH, made_model

OWN = "tests.experiments.exporting.test_export_file."
pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        ({"name": "pca_mlp"}, ["spectra", "mask"]),
        (
            {"name": "spectra_only", "params": SPECTRA_BRANCH, "linear_path": True},
            ["spectra", "mask"],
        ),
    ],
)
def test_without_covariates_there_is_no_such_input(model, inputs, cohort_dir, tmp_path):
    none: dict[str, Any] = {"numeric": [], "categorical": []}
    exported = export_model(made_model(cohort_dir, tmp_path, model, **none), "onnx")
    session = onnxruntime.InferenceSession(exported.file)
    assert [each.name for each in session.get_inputs()] == inputs
    assert list(exported.inputs) == inputs


def test_without_spectra_there_are_covariates_alone(cohort_dir, tmp_path):
    root = tmp_path / "covariates"
    root.mkdir()
    shutil.copy(cohort_dir / "samples.csv", root)
    model = {"name": "tabular_only", "linear_path": True}
    for kind in ("onnx", "torch", "safetensors"):
        trained = made_model(root, tmp_path / kind, model, numeric=["age"])
        exported = export_model(trained, kind)
        assert list(exported.inputs)[-1] == "tabular"
        assert exported.rows == "7 samples of the cohort covariates, 7 of its test set"
        assert (kind == "safetensors") == ("spectra" in exported.inputs)


class OwnModel(nn.Module):
    """One that can be traced: it takes no covariates."""

    def __init__(self, spec_len: int, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(spec_len, num_classes)

    def forward(self, spectra, mask, tabular):
        return {"logits": self.score((spectra * mask[..., None]).sum(dim=1))}

    def score(self, total):
        return self.head(total)


class Branching(OwnModel):
    """One whose path depends on values."""

    def score(self, total):
        return self.head(total) if total.sum() > 0 else -self.head(total)


class OtherWhenExported(OwnModel):
    """One whose graph is another model."""

    def score(self, total):
        return self.head(total) * (1.0001 if torch.compiler.is_exporting() else 1.0)


def test_a_model_of_the_users_own_is_exported(cohort_dir, tmp_path):
    trained = made_model(cohort_dir, tmp_path, {"name": f"{OWN}OwnModel"}, temperature=None)
    session = onnxruntime.InferenceSession(export_model(trained, "onnx").file)
    assert [each.name for each in session.get_inputs()] == ["spectra", "mask"]
    assert [each.name for each in session.get_outputs()] == ["logits", "probabilities"]


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("Branching", "cannot be exported: torch.export cannot trace it ("),
        ("OtherWhenExported", "not exported: outputs differ from the model's by "),
    ],
)
def test_what_differs_or_cannot_be_traced_leaves_no_file(model, told, cohort_dir, tmp_path):
    trained = made_model(cohort_dir, tmp_path, {"name": f"{OWN}{model}"})
    for kind in ("onnx", "torch"):
        with pytest.raises(ValueError, match=re.escape(told)) as error:
            export_model(trained, kind)
        assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []
