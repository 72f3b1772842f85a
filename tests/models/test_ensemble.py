"""Classical models as modules, and networks beside them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor
from sklearn.pipeline import Pipeline
from torch.nn.functional import cross_entropy

from engine.model_call import call_loss
from models import (
    ClassicalMember,
    Ensemble,
    MeanLinear,
    Members,
    TrainingSet,
    fit_before_training,
)
from models.classical import ClassicalModel, inner_fold
from models.combination import LEFT_OUT
from models.ensemble import Trees
from tests.models.small_batch import SPEC_LEN, small_model

SAMPLES, POINTS, COVARIATES = 90, 12, 4
CLASSES = {"binary": 2, "multiclass": 3, "multilabel": 3, "regression": 2}


def names_of(task):
    """The classical models that can be members."""
    regression = task == "regression"
    linear = ("spectra_ridge",) if regression else ("spectra_logistic", "spectra_pca_logistic")
    further = "covariates_ridge" if regression else "covariates_logistic"
    return [*linear, further, "spectra_extra_trees", "covariates_extra_trees"]


def training_set(task, seed=0, samples=SAMPLES):
    """Groups of three; of several labels the last is constant."""
    rng = np.random.default_rng(seed)
    spectra = rng.normal(size=(samples, POINTS)).astype(np.float32)
    covariates = rng.normal(size=(samples, COVARIATES)).astype(np.float32)
    covariates[:, 0] = covariates[:, 0].round()  # of few values
    score = 2 * spectra[:, :3] + 2 * covariates[:, :3]
    targets = {
        "binary": (score[:, 0] > 0).astype(np.int64),
        "multiclass": score.argmax(axis=1),
        "multilabel": np.column_stack([score[:, :2] > 0, np.ones(samples)]).astype(np.float32),
        "regression": score[:, :2],
    }
    groups = np.repeat([f"g{n}" for n in range(samples // 3)], 3)
    return TrainingSet(spectra, covariates, targets[task], groups, task, seed)


def predicted(task, logits):
    """Logits as ClassicalModel.predict gives them."""
    if task == "regression":
        return logits
    return expit(logits) if task == "multilabel" else softmax(logits, axis=1)


def inputs_of(training):
    spectra = torch.from_numpy(training.spectra)[:, None]
    return spectra, torch.ones(spectra.shape[:2], dtype=torch.bool), tabular_of(training)


def tabular_of(training):
    return torch.from_numpy(training.covariates)


@pytest.mark.parametrize(
    ("name", "task"), [(name, task) for task in CLASSES for name in names_of(task)]
)
def test_a_classical_member_predicts_as_the_model_does(name, task):
    training, others = training_set(task), training_set(task, seed=1)
    features = POINTS if name.startswith("spectra") else COVARIATES
    member = ClassicalMember(name, features, CLASSES[task], task)
    member.fit(training)
    model = ClassicalModel(name, task, training.seed)
    model.fit(
        training.spectra if features == POINTS else training.covariates,
        training.targets,
        training.groups,
    )
    x = others.spectra if features == POINTS else others.covariates
    found = predicted(task, member(*inputs_of(others)).double().numpy())
    assert found == pytest.approx(model.predict(x), abs=2e-5)
    # A new module has tables of other sizes.
    new = ClassicalMember(name, features, CLASSES[task], task)
    new.load_state_dict(member.state_dict())
    assert torch.equal(new(*inputs_of(others)), member(*inputs_of(others)))


@pytest.mark.parametrize("depth", [1, None])
@pytest.mark.parametrize("kind", [ExtraTreesClassifier, ExtraTreesRegressor])
def test_trees_decide_at_their_thresholds_as_scikit_learn_does(kind, depth):
    training = training_set("multiclass")
    x, y = training.covariates, training.targets
    fitted = kind(20, max_depth=depth, random_state=0).fit(x, y)
    width = 3 if kind is ExtraTreesClassifier else 1
    trees = Trees(COVARIATES, width)
    trees.take(Pipeline([("model", fitted)]))
    # Samples at a threshold, and one float32 to either side of it.
    thresholds = [(tree.tree_.feature, tree.tree_.threshold) for tree in fitted.estimators_]
    points = []
    for feature, value in zip(*map(np.concatenate, zip(*thresholds, strict=True)), strict=True):
        for side in (0, np.inf, -np.inf):
            point = x[0].copy()
            at = np.float32(value)
            point[feature] = np.nextafter(at, np.float32(side)) if side else at
            points.append(point)
    x = np.stack(points)
    found = trees(torch.from_numpy(x)).numpy()
    if kind is ExtraTreesClassifier:
        assert softmax(found, axis=1) == pytest.approx(fitted.predict_proba(x), abs=2e-5)
    else:
        assert found[:, 0] == pytest.approx(fitted.predict(x), abs=1e-5)


def test_trees_without_a_split_give_their_root():
    x = np.zeros((6, 2), dtype=np.float32)
    fitted = ExtraTreesClassifier(5, random_state=0).fit(x, [0, 0, 0, 0, 1, 1])
    trees = Trees(2, 2)
    trees.take(Pipeline([("model", fitted)]))
    assert int(trees.depth) == 0
    assert trees(torch.ones(1, 2)).softmax(1).tolist() == [pytest.approx([4 / 6, 2 / 6])]


@pytest.mark.slow
def test_trees_are_exported_at_their_depth(tmp_path):
    training = training_set("multiclass")
    member = ClassicalMember("covariates_extra_trees", COVARIATES, 3, "multiclass")
    member.fit(training)
    # As a run that is read again has it.
    new = ClassicalMember("covariates_extra_trees", COVARIATES, 3, "multiclass")
    new.load_state_dict(member.state_dict())
    inputs = inputs_of(training)
    batch = torch.export.Dim("batch")
    graph = torch.export.export(new, inputs, dynamic_shapes=({0: batch},) * 3).module()
    others = tuple(part[:5] for part in inputs)
    assert torch.equal(graph(*others), member(*others))
    assert len(member(*others).unique(dim=0)) > 2


def linear_ensemble(training, count=2, **options):
    """Linear networks of the mean scan, and two classical models."""
    torch.manual_seed(0)
    networks = {f"net{n}": MeanLinear(POINTS, num_classes=2) for n in range(count)}
    classical = {
        "logistic": ClassicalMember("spectra_logistic", POINTS, 2, "binary"),
        "trees": ClassicalMember("covariates_extra_trees", COVARIATES, 2, "binary"),
    }
    for member in classical.values():
        member.fit(training)
    return Ensemble(networks, classical, **options)


def test_logits_are_the_weighted_sum_of_the_members():
    training = training_set("binary")
    ensemble = linear_ensemble(training).eval()
    inputs = inputs_of(training)
    each = [network(*inputs)["logits"] for network in ensemble.networks.values()]
    each += [member(*inputs) for member in ensemble.classical.values()]
    assert torch.allclose(ensemble(*inputs)["logits"], sum(each) / 4)
    ensemble.member_weights.copy_(torch.tensor([0.5, 0.0, 0.2, 0.1]))
    found = ensemble(*inputs)
    assert torch.allclose(found["logits"], 0.5 * each[0] + 0.2 * each[2] + 0.1 * each[3])
    assert torch.equal(found["member_logits"], torch.stack(each, dim=1))


def test_each_network_learns_as_if_it_were_alone():
    training = training_set("binary")
    ensemble, target = linear_ensemble(training), torch.from_numpy(training.targets)

    def loss(outputs, targets):
        return {"total_loss": cross_entropy(outputs["logits"], targets)}

    inputs = inputs_of(training)
    outputs = ensemble(*inputs)
    assert len(outputs["parts"]) == len(ensemble.networks)
    call_loss(loss, outputs, target)["total_loss"].backward()
    for network in ensemble.networks.values():
        together = network.head.weight.grad.clone()
        network.zero_grad()
        loss(network(*inputs), target)["total_loss"].backward()
        assert torch.allclose(network.head.weight.grad / 2, together, atol=1e-7)


def test_padded_scans_may_hold_anything():
    training = training_set("binary")
    ensemble = linear_ensemble(training).eval()
    spectra, mask, tabular = inputs_of(training)
    padded = torch.cat([spectra, torch.full_like(spectra, torch.nan)], dim=1)
    longer = torch.cat([mask, torch.zeros_like(mask)], dim=1)
    found = ensemble(padded, longer, tabular)["logits"]
    assert torch.equal(found, ensemble(spectra, mask, tabular)["logits"])


def noisy_logits(samples, seed=0):
    """Logits [N, 3, 2] of a good member, another as good, and one of noise; targets."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 2, samples)
    signs = 2.0 * targets - 1
    scores = rng.normal(size=(samples, 3)) * [1, 1, 6] + np.outer(signs, [1, 1, 0])
    return np.stack([-scores / 2, scores / 2], axis=2).astype(np.float32), targets


def test_the_validation_set_leaves_out_a_member_of_noise():
    ensemble = linear_ensemble(training_set("binary"), count=1)
    logits, targets = noisy_logits(400)
    ensemble.choose_weights(logits, targets, "binary")
    good, other, noise = ensemble.member_weights.tolist()
    assert noise < 0.02
    assert min(good, other) > 1 / 3


def test_few_samples_leave_the_weights_near_the_mean():
    ensemble = linear_ensemble(training_set("binary"), count=1)
    logits, targets = noisy_logits(4)
    ensemble.choose_weights(logits[:, :2].repeat(2, axis=1)[:, :3], targets, "binary")
    assert ensemble.member_weights.numpy() == pytest.approx(1 / 3, abs=0.2)
    ensemble.choose_weights(logits[:0], targets[:0], "binary")
    assert ensemble.member_weights.tolist() == pytest.approx([1 / 3] * 3)


def test_members_that_are_not_stacked_keep_the_mean():
    ensemble = linear_ensemble(training_set("binary"), count=1, stacked=False)
    ensemble.choose_weights(*noisy_logits(400), "binary")
    assert ensemble.member_weights.tolist() == pytest.approx([1 / 3] * 3)


def test_an_ensemble_without_a_network_is_refused():
    with pytest.raises(ValueError, match="at least one network"):
        Ensemble({}, {"trees": ClassicalMember("covariates_extra_trees", 4, 2, "binary")})


def test_embeddings_that_only_some_networks_have_are_left_out(batch):
    tft, plain = small_model("tft"), MeanLinear(SPEC_LEN, num_classes=2)
    with_gate = Ensemble({"a": tft, "b": small_model("tft", seed=1)}, {}).eval()
    outputs = with_gate(*batch.inputs)
    assert outputs["gated_spec"].shape == outputs["spec_embedding"].shape
    assert set(tft.eval()(*batch.inputs)["attention_weights"]) <= set(outputs["attention_weights"])
    mixed = Ensemble({"a": tft, "b": plain}, {}).eval()(*batch.inputs)
    assert "gated_spec" not in mixed


def test_mixed_precision_does_not_round_the_weighted_sum():
    training = training_set("binary")
    ensemble = linear_ensemble(training).eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = ensemble(*inputs_of(training))
    weighted = (found["member_logits"].float() / 4).sum(dim=1)
    assert found["logits"].dtype == torch.float32
    assert torch.allclose(found["logits"], weighted, atol=1e-6)


@pytest.mark.parametrize("task", CLASSES)
@pytest.mark.parametrize("kind", ["linear", "extra_trees"])
def test_given_folds_a_member_predicts_each_sample_without_its_fold(task, kind):
    training = training_set(task)
    fold = inner_fold(training.targets, training.groups, task, 0)
    names = [n for n in names_of(task) if n.endswith("extra_trees") == (kind == "extra_trees")]
    member = ClassicalMember(names[0], POINTS, CLASSES[task], task)
    assert member.fit(training) is None
    offset = member.fit(training._replace(fold=fold))
    assert offset.shape == (SAMPLES, CLASSES[task])
    own = predicted(task, member(*inputs_of(training)).numpy())
    left = fold == 1
    whole = ClassicalModel(names[0], task, training.seed)
    whole.fit(training.spectra, training.targets, training.groups)
    other = whole.fit_again(
        training.spectra[~left], training.targets[~left], training.groups[~left]
    )
    expected = other.predict(training.spectra[left])
    assert predicted(task, offset[left]) == pytest.approx(expected, abs=2e-5)
    assert np.abs(predicted(task, offset[left]) - own[left]).max() > 0.01


def test_given_folds_logits_are_of_members_that_left_the_sample_out():
    training = training_set("binary")
    fold = inner_fold(training.targets, training.groups, "binary", 0)
    training = training._replace(fold=fold)
    torch.manual_seed(0)
    members = Members([MeanLinear(POINTS, num_classes=2) for _ in range(5)])
    names = ("spectra_logistic", "covariates_extra_trees")
    classical = {
        name: ClassicalMember(name, POINTS if "spectra" in name else COVARIATES, 2, "binary")
        for name in names
    }
    ensemble = Ensemble({"net": members}, classical).eval()
    assert ensemble.leaves_out
    assert not Ensemble({"net": members}, classical, stacked=False).leaves_out
    offset = fit_before_training(ensemble, training)
    assert offset.shape == (SAMPLES, 2, 2)
    folds = torch.from_numpy(fold)
    inputs = inputs_of(training)
    found = ensemble(*inputs, offset=torch.from_numpy(offset), fold=folds)
    networks = members(*inputs, fold=folds)[LEFT_OUT]
    expected = torch.stack([networks, *torch.from_numpy(offset).unbind(1)], dim=1)
    assert torch.equal(found["member_logits"], expected)
    assert torch.allclose(found["logits"], expected.mean(dim=1))
    # Samples of no fold, as those of other sets, have the logits of all.
    assert not torch.equal(found["member_logits"], ensemble(*inputs)["member_logits"])
