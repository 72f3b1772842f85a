"""Every family of models in every format: the same numbers as the model, for any batch."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from datasets.errors import UsageError
from experiments.export import KINDS
from experiments.exporting import export_model, load_weights
from experiments.exporting.formats import ALONE, FORMATS
from experiments.exporting.parity import TOLERANCE
from models import MODELS
from tests.experiments.exporting.made_models import (
    ENSEMBLE,
    FAMILIES,
    LINEAR_PATH,
    TASKS,
    VALUES_ENSEMBLE,
    made_model,
)

pytestmark = pytest.mark.slow
MODEL_SETTINGS = {
    **{name: {"name": name, **settings} for name, settings in FAMILIES.items()},
    "linear_path_of_members": LINEAR_PATH,
    "ensemble": ENSEMBLE,
}
OF_COVARIATES = ("tabular_only", "tabular_transformer")
OF_SPECTRA = ("spectra_only", "spectra_cnn", "mean_linear")


def inputs_of(name):
    both = {"spectra": ["batch", "scans", 128], "mask": ["batch", "scans"]}
    covariates = {"tabular": ["batch", 14]}
    if name in OF_COVARIATES:
        return covariates
    return both if name in OF_SPECTRA else both | covariates


def random_batch(trained, samples, scans):
    """Samples of one to all scans; what stands in padded scans is no number."""
    generator = np.random.default_rng(samples)
    sizes = trained.sizes
    mask = np.arange(scans) < generator.integers(1, scans + 1, samples)[:, None]
    spectra = generator.standard_normal((samples, scans, sizes["spec_len"]))
    spectra[~mask] = np.nan
    tabular = generator.standard_normal((samples, sizes["tab_dim"]))
    return {
        "spectra": spectra.astype(np.float32),
        "mask": mask,
        "tabular": tabular.astype(np.float32),
    }


def own_logits(trained, batch):
    inputs = (torch.from_numpy(batch[name]) for name in ("spectra", "mask", "tabular"))
    with torch.no_grad():
        return trained.model(*inputs)["logits"].numpy()


def test_every_short_name_and_format_is_known():
    assert set(FAMILIES) == set(MODELS)
    assert list(KINDS) == list(FORMATS)


@pytest.mark.parametrize("name", MODEL_SETTINGS)
def test_onnx_gives_the_models_numbers_for_any_batch(name, cohort_dir, tmp_path):
    trained = made_model(cohort_dir, tmp_path, MODEL_SETTINGS[name])
    exported = export_model(trained, "onnx")
    assert exported.difference <= TOLERANCE
    assert exported.rows == "7 samples of the cohort small, 7 of its test set"
    session = onnxruntime.InferenceSession(exported.file)
    assert {each.name: each.shape for each in session.get_inputs()} == inputs_of(name)
    assert np.ptp(own_logits(trained, random_batch(trained, 6, 3)), axis=0).min() > 1e-3
    for samples, scans in ((1, 1), (1, 5), (6, 1), (11, 4)):
        batch = random_batch(trained, samples, scans)
        fed = {name: batch[name] for name in inputs_of(name)}
        logits, probabilities, calibrated = session.run(None, fed)
        own = own_logits(trained, batch)
        assert logits == pytest.approx(own, rel=TOLERANCE, abs=TOLERANCE)
        odds = np.exp(own[:, 1] - own[:, 0].astype(float))
        assert probabilities[:, 1] == pytest.approx(odds / (1 + odds), abs=TOLERANCE)
        odds **= 1 / 1.7
        assert calibrated[:, 1] == pytest.approx(odds / (1 + odds), abs=TOLERANCE)


# The traced program is the one that ONNX is made from, of which each family has a test.
@pytest.mark.parametrize("name", ["tft", "pca_mlp", "linear_path_of_members", "ensemble"])
def test_torch_and_weights_give_the_models_numbers(name, cohort_dir, tmp_path):
    trained = made_model(cohort_dir, tmp_path, MODEL_SETTINGS[name])
    batch = random_batch(trained, 5, 3)
    own = own_logits(trained, batch)
    program = torch.export.load(export_model(trained, "torch").file).module()
    fed = {name: torch.from_numpy(batch[name]) for name in inputs_of(name)}
    found = program(**fed)["logits"].detach().numpy()
    assert found == pytest.approx(own, rel=TOLERANCE, abs=TOLERANCE)

    model, description = load_weights(export_model(trained, "safetensors").file)
    with torch.no_grad():
        found = model(*map(torch.from_numpy, batch.values()))["logits"].numpy()
    assert found == pytest.approx(own, rel=TOLERANCE, abs=TOLERANCE)
    assert description["model"]["settings"]["name"] == MODEL_SETTINGS[name]["name"]


@pytest.fixture(scope="module")
def labelled_dir(cohort_dir, tmp_path_factory):
    """The small cohort with two labels more."""
    root = tmp_path_factory.mktemp("labelled") / "labelled"
    root.mkdir()
    for file in cohort_dir.iterdir():
        (root / file.name).write_bytes(file.read_bytes())
    samples = pd.read_csv(root / "samples.csv")
    samples["ill"] = (samples["label"] == "case").astype(int)
    samples["old"] = (samples["age"] > samples["age"].median()).astype(int)
    samples.drop(columns="label").to_csv(root / "samples.csv", index=False)
    (root / "cohort.yaml").unlink(missing_ok=True)
    return root


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_scores_are_those_of_the_task(task, labelled_dir, tmp_path):
    settings = VALUES_ENSEMBLE if task == "regression" else ENSEMBLE
    temperature = None if task == "regression" else 0.6
    roles = {"numeric": ["BMI"], "categorical": ["sex"], "group": None}
    trained = made_model(labelled_dir, tmp_path, settings, temperature, **TASKS[task], **roles)
    exported = export_model(trained, "onnx")
    session = onnxruntime.InferenceSession(exported.file)
    batch = random_batch(trained, 4, 2)
    names = [each.name for each in session.get_outputs()]
    found = dict(zip(names, session.run(None, batch), strict=True))
    logits = own_logits(trained, batch).astype(float)
    assert found["logits"] == pytest.approx(logits, rel=TOLERANCE, abs=TOLERANCE)
    if task == "regression":
        assert names == ["logits", "values"]
        assert trained.scaler is not None
        state = trained.scaler.state_dict()
        wanted = logits * state["std"] + state["mean"]
        assert found["values"] == pytest.approx(wanted, rel=1e-4)
    else:
        assert names == ["logits", "probabilities", "calibrated_probabilities"]
        assert found["probabilities"] == pytest.approx(1 / (1 + np.exp(-logits)), abs=1e-5)
        calibrated = 1 / (1 + np.exp(-logits / 0.6))
        assert found["calibrated_probabilities"] == pytest.approx(calibrated, abs=1e-5)


def test_each_file_holds_its_description(cohort_dir, tmp_path):
    trained = made_model(cohort_dir, tmp_path, {"name": "pca_mlp"})
    texts = {}
    for kind in FORMATS:
        exported = export_model(trained, kind)
        beside = json.loads(exported.description.read_text())
        assert beside.pop("parity")["largest_difference"] == exported.difference
        texts[kind] = beside
    model = onnx.load(tmp_path / "made.onnx")
    onnx.checker.check_model(model)
    inside = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(inside["scanfire"]) == texts["onnx"]
    extra = {"scanfire.json": ""}
    torch.export.load(tmp_path / "made.pt2", extra_files=extra)
    assert json.loads(extra["scanfire.json"]) == texts["torch"]
    assert load_weights(tmp_path / "made.safetensors")[1] == texts["safetensors"]


def test_the_separate_process_has_no_torch(cohort_dir, tmp_path):
    trained = made_model(cohort_dir, tmp_path, {"name": "tabular_only"})
    file = export_model(trained, "onnx").file
    np.savez(tmp_path / "in.npz", **{"0/tabular": random_batch(trained, 2, 1)["tabular"]})
    run = "import runpy, sys; {}sys.argv = sys.argv[1:]; runpy.run_path({!r}, run_name='__main__')"
    imports = "; print(sorted({m.partition('.')[0] for m in sys.modules}))"
    words = [str(ALONE), str(file), str(tmp_path / "in.npz"), str(tmp_path / "out.npz")]

    def process(before):
        code = run.format(before, str(ALONE)) + imports
        command = [sys.executable, "-c", code, *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

    done = process("")
    assert done.returncode == 0, done.stderr
    assert "'onnxruntime'" in done.stdout
    for package in ("torch", "datasets", "models", "engine", "experiments"):
        assert f"'{package}'" not in done.stdout
    assert np.load(tmp_path / "out.npz")["0/logits"].shape == (2, 2)
    assert "torch was imported" in process("import torch; ").stderr


def test_weights_without_their_description_are_refused(cohort_dir, tmp_path):
    trained = made_model(cohort_dir, tmp_path, {"name": "mean_linear"})
    weights = trained.model.state_dict()
    save_file(weights, tmp_path / "bare.safetensors")
    other = json.dumps({"format": "scanfire export", "version": 2})
    save_file(weights, tmp_path / "other.safetensors", metadata={"scanfire": other})
    for name, told in (
        ("bare", "has no description 'scanfire'"),
        ("other", "'scanfire export' 2, where 'scanfire export' 1 was expected"),
        ("missing", "cannot be loaded as an exported model"),
    ):
        with pytest.raises(UsageError, match=re.escape(told)):
            load_weights(tmp_path / f"{name}.safetensors")
