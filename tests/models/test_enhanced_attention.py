"""Fusion of results that come from encoders elsewhere."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.attention_models import FUSION_TYPES, EnhancedAttentionMultimodal, EnhancedClassifier
from models.tft_loss import TFTLoss

B, SPEC, TAB, S, D = 6, 12, 7, 3, 5
TARGET = torch.arange(B) % 2


def build(**changes: Any) -> EnhancedAttentionMultimodal:
    torch.manual_seed(0)
    settings = {"hidden_dims": [16, 16, 8], "fusion_dim": 16, "num_heads": 4, **changes}
    return EnhancedAttentionMultimodal(SPEC, TAB, **settings)


def results(num_classes: int = 2, with_tokens: bool = False) -> tuple[dict[str, Tensor], ...]:
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    spectra = {"embedding": draw(B, SPEC), "logits": draw(B, num_classes)}
    tabular = {"embedding": draw(B, TAB), "logits": draw(B, num_classes)}
    if with_tokens:
        spectra["tokens"] = draw(B, S, SPEC)
        spectra["mask"] = torch.arange(S) < torch.tensor([3, 1, 2, 3, 1, 2])[:, None]
        tabular["tokens"] = draw(B, D, TAB)
    return spectra, tabular


@pytest.mark.parametrize("num_classes", [1, 2, 5])
@pytest.mark.parametrize("fusion_type", FUSION_TYPES)
def test_outputs_are_as_promised(fusion_type: str, num_classes: int) -> None:
    spectra, tabular = results(num_classes)
    out = build(fusion_type=fusion_type, num_classes=num_classes)(spectra, tabular)
    attention = out.pop("attention_weights")
    assert {key: tuple(value.shape) for key, value in out.items()} == {
        "logits": (B, num_classes),
        "embedding": (B, 16 if fusion_type == "enhanced_cross" else SPEC + TAB),
        "spec_embedding": (B, SPEC),
        "tab_embedding": (B, TAB),
        "spec_logits": (B, num_classes),
        "tab_logits": (B, num_classes),
        "aux_spec_logits": (B, num_classes),
        "aux_tab_logits": (B, num_classes),
        "aux_logits_spec": (B, num_classes),
        "aux_logits_tab": (B, num_classes),
    }
    assert out["spec_logits"] is spectra["logits"]
    assert out["tab_embedding"] is tabular["embedding"]
    assert set(attention) == (
        {"spectra_pooling", "tabular_pooling", "fusion_gate"}
        if fusion_type == "enhanced_cross"
        else set()
    )


def test_results_may_be_named() -> None:
    model = build().eval()
    spectra, tabular = results()
    named = model(tabular_result=tabular, spectra_result=spectra)
    assert torch.equal(named["logits"], model(spectra, tabular)["logits"])


def test_tokens_make_the_attention_one_of_scans_and_covariates() -> None:
    model = build().eval()
    spectra, tabular = results(with_tokens=True)
    fast = model(spectra, tabular)["logits"]
    model.return_attention = True
    out = model(spectra, tabular)
    torch.testing.assert_close(out["logits"], fast, atol=1e-5, rtol=0)
    weights = out["attention_weights"]
    assert weights["spectra_to_tabular"].shape == (B, 4, S, D)
    assert weights["tabular_to_spectra"].shape == (B, 4, D, S)
    assert (weights["tabular_to_spectra"] * ~spectra["mask"][:, None, None]).eq(0).all()


@pytest.mark.parametrize("with_tokens", [True, False])
@pytest.mark.parametrize("fusion_type", FUSION_TYPES)
def test_gradients_reach_every_parameter_and_both_encoders(
    fusion_type: str, with_tokens: bool
) -> None:
    spectra, tabular = results(with_tokens=with_tokens)
    given = [side["embedding"].requires_grad_() for side in (spectra, tabular)]
    model = build(fusion_type=fusion_type, dropout=0.0)
    TFTLoss()(model(spectra, tabular), TARGET)["total_loss"].backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []
    assert all(tensor.grad is not None and tensor.grad.any() for tensor in given)


def test_the_loss_uses_the_auxiliary_heads() -> None:
    model = build().eval()
    terms = TFTLoss()(model(*results()), TARGET)
    spec, tab = results()[0]["embedding"], results()[1]["embedding"]
    assert isinstance(model.aux_head_spec, nn.Module)
    for term, logits in (
        ("aux_spec_loss", model.aux_head_spec(spec)),
        ("aux_tab_loss", model.aux_head_tab(tab)),
    ):
        torch.testing.assert_close(terms[term], functional.cross_entropy(logits, TARGET))


def test_without_auxiliary_heads_there_are_no_outputs_of_them() -> None:
    model = build(use_auxiliary=False)
    assert not [key for key in model(*results()) if key.startswith("aux")]
    assert not [name for name, _ in model.named_parameters() if "aux" in name]


@pytest.mark.parametrize("fusion_type", FUSION_TYPES)
def test_main_logits_are_the_classifier_of_the_fused_vector(fusion_type: str) -> None:
    model = build(fusion_type=fusion_type).eval()
    spectra, tabular = results()
    out = model(spectra, tabular)
    assert torch.equal(out["logits"], model.classifier(out["embedding"]))
    others = [side | {"logits": side["logits"] + 5} for side in (spectra, tabular)]
    assert torch.equal(model(*others)["logits"], out["logits"])


def input_features(model: EnhancedAttentionMultimodal) -> int:
    return model.state_dict()["classifier.layers.0.body.0.weight"].shape[1]


def test_enhanced_cross_classifies_256_features_by_default() -> None:
    model = EnhancedAttentionMultimodal(100, 30)
    assert input_features(model) == 256


def test_concat_classifies_the_joined_embeddings_themselves() -> None:
    model = build(fusion_type="concat").eval()
    spectra, tabular = results()
    out = model(spectra, tabular)
    joined = torch.cat([spectra["embedding"], tabular["embedding"]], dim=-1)
    assert torch.equal(out["embedding"], joined)
    assert input_features(model) == SPEC + TAB
    assert not [name for name, _ in model.named_parameters() if name.startswith("fusion")]


@pytest.mark.parametrize("fusion_type", FUSION_TYPES)
def test_bf16_autocast_stays_finite_and_close(fusion_type: str) -> None:
    model = build(fusion_type=fusion_type, dropout=0.0)
    exact = model(*results())["logits"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(*results())
        loss = TFTLoss()(out, TARGET)["total_loss"]
    loss.backward()
    torch.testing.assert_close(out["logits"].float(), exact, atol=0.1, rtol=0.1)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_one_sample_trains() -> None:
    model = build()
    spectra, tabular = ({k: v[:1] for k, v in side.items()} for side in results(with_tokens=True))
    loss = TFTLoss()(model(spectra, tabular), TARGET[:1])["total_loss"]
    loss.backward()
    assert loss.isfinite()


def test_encoders_of_another_kind_are_trained_through_it() -> None:
    torch.manual_seed(0)
    encoders = nn.ModuleList(nn.Linear(4, width) for width in (SPEC, TAB))
    heads = nn.ModuleList(nn.Linear(width, 2) for width in (SPEC, TAB))
    model = build(dropout=0.0)
    inputs, target = torch.randn(2, 32, 4), torch.arange(32) % 2
    inputs[:, target == 1] += 1
    parameters = [*encoders.parameters(), *heads.parameters(), *model.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-2)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        embeddings = [encoder(x) for encoder, x in zip(encoders, inputs, strict=True)]
        sides = [
            {"embedding": embedding, "logits": head(embedding)}
            for embedding, head in zip(embeddings, heads, strict=True)
        ]
        loss = TFTLoss()(model(*sides), target)["main_loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fusion_type": "sum"}, "fusion_type must be 'enhanced_cross' or 'concat', got 'sum'"),
        ({"num_heads": 3}, "num_heads=3 does not divide fusion_dim=16; the nearest that does: 2"),
        ({"num_classes": 0}, "num_classes must be at least 1, got 0"),
        ({"hidden_dims": [4, 0]}, r"hidden_dims\[1\] must be at least 1, got 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_one_line(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        build(**changes)


def test_results_that_do_not_fit_are_refused_by_their_side() -> None:
    spectra, tabular = results()
    with pytest.raises(ValueError, match=r"^tabular_result has no 'logits'; found: 'embedding'$"):
        build()(spectra, {"embedding": tabular["embedding"]})
    with pytest.raises(ValueError, match=r"^spectra_result\['embedding'\] has shape \[6, 7\]"):
        build()(tabular, spectra)
    fewer = {key: value[:4] for key, value in tabular.items()}
    with pytest.raises(ValueError, match="spectra_result has 6 samples, tabular_result has 4"):
        build()(spectra, fewer)


def test_the_hidden_layers_are_as_wide_as_asked_for() -> None:
    classifier = EnhancedClassifier(16, num_classes=3, hidden_dims=[12, 8])
    seen: list[int] = []
    for layer in classifier.layers:
        layer.register_forward_hook(lambda _, given, result: seen.append(result.shape[1]))
    assert classifier(torch.randn(5, 16)).shape == (5, 3)
    assert seen == [12, 8]


def test_the_usual_layers_are_shared_by_no_two_classifiers() -> None:
    default = inspect.signature(EnhancedClassifier).parameters["hidden_dims"].default
    assert default == (512, 256, 128)  # a tuple: nobody can change it for others


def test_without_hidden_layers_it_is_linear() -> None:
    classifier = EnhancedClassifier(4, hidden_dims=[])
    vectors = torch.randn(3, 4)
    torch.testing.assert_close(
        classifier(vectors), vectors @ classifier.head.weight.T + classifier.head.bias
    )


@pytest.mark.parametrize("use_residual", [True, False])
def test_the_residual_path_goes_round_a_silenced_layer(use_residual: bool) -> None:
    classifier = EnhancedClassifier(6, hidden_dims=[6], use_residual=use_residual).eval()
    body = classifier.layers[0].get_submodule("body")
    for parameter in body.parameters():
        nn.init.zeros_(parameter)
    vectors = torch.randn(3, 6)
    passed = vectors if use_residual else torch.zeros(3, 6)
    torch.testing.assert_close(classifier(vectors), classifier.head(passed))


@pytest.mark.parametrize("use_layer_norm", [True, False])
def test_layer_norm_makes_a_plain_layer_deaf_to_scale(use_layer_norm: bool) -> None:
    torch.manual_seed(0)
    classifier = EnhancedClassifier(
        6, hidden_dims=[8], use_residual=False, use_layer_norm=use_layer_norm
    ).eval()
    vectors = 100 * torch.randn(3, 6)
    same = torch.allclose(classifier(vectors), classifier(10 * vectors), atol=0.05)
    assert same == use_layer_norm


@pytest.mark.parametrize("use_residual", [True, False])
@pytest.mark.parametrize("use_layer_norm", [True, False])
def test_gradients_reach_every_parameter(use_residual: bool, use_layer_norm: bool) -> None:
    torch.manual_seed(0)
    classifier = EnhancedClassifier(
        6, 1, [8, 8, 4], 0.0, use_residual=use_residual, use_layer_norm=use_layer_norm
    )
    classifier(torch.randn(5, 6)).square().sum().backward()
    without = [n for n, p in classifier.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_a_layer_without_features_is_refused_by_its_place() -> None:
    with pytest.raises(ValueError, match=r"^hidden_dims\[1\] must be at least 1, got 0$"):
        EnhancedClassifier(6, hidden_dims=[8, 0])
