"""Checks of sizes and of an encoder's results."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from models.checks import (
    check_heads,
    check_result,
    check_same_batch,
    check_sizes,
    check_spec_len,
    check_tab_dim,
)


def test_sizes_that_fit_pass() -> None:
    check_sizes(width=1, layers=7)
    check_heads(16, 4)
    check_tab_dim(1, "Model")
    check_spec_len(torch.zeros(2, 3, 10), 10)


def test_the_first_size_below_one_is_named() -> None:
    with pytest.raises(ValueError, match=r"^layers must be at least 1, got 0$"):
        check_sizes(width=1, layers=0, heads=-1)


@pytest.mark.parametrize(("heads", "closest"), [(3, 2), (7, 8), (0, 1), (100, 16)])
def test_the_nearest_number_of_heads_is_named(heads: int, closest: int) -> None:
    message = f"num_heads={heads} does not divide hid_dim=16; the nearest that does: {closest}"
    with pytest.raises(ValueError, match=f"^{message}$"):
        check_heads(16, heads, "hid_dim")


def test_without_covariates_the_model_that_needs_none_is_named() -> None:
    with pytest.raises(ValueError, match=r"^Model needs at least one covariate.*'spectra_only'$"):
        check_tab_dim(0, "Model")


def test_scans_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"spectra have 9 points a scan; .* spec_len=10"):
        check_spec_len(torch.zeros(2, 3, 9), 10)


WHOLE = {
    "embedding": torch.zeros(4, 6),
    "logits": torch.zeros(4, 2),
    "tokens": torch.zeros(4, 3, 6),
    "mask": torch.ones(4, 3, dtype=torch.bool),
}


def test_whole_results_pass_with_and_without_tokens() -> None:
    check_result("result", WHOLE, embedding_dim=6, num_classes=2)
    without: dict[str, Any] = {"embedding": WHOLE["embedding"], "logits": WHOLE["logits"]}
    check_result("result", without, embedding_dim=6, num_classes=2)
    check_result("result", without | {"tokens": None}, embedding_dim=6, num_classes=2)
    check_same_batch(WHOLE, without)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embedding": torch.zeros(4, 5)}, r"result\['embedding'\] has shape \[4, 5\]; .*\[B, 6\]"),
        ({"embedding": torch.zeros(6)}, r"result\['embedding'\] has shape \[6\]; .*\[B, 6\]"),
        ({"embedding": [0.0]}, r"result\['embedding'\] must be a tensor, not list"),
        ({"logits": torch.zeros(4, 3)}, r"result\['logits'\] has shape \[4, 3\]; .*\[4, 2\]"),
        ({"logits": torch.zeros(3, 2)}, r"result\['logits'\] has shape \[3, 2\]; .*\[4, 2\]"),
        (
            {"tokens": torch.zeros(4, 6)},
            r"result\['tokens'\] has shape \[4, 6\]; expected \[4, tokens, 6\]",
        ),
        ({"mask": torch.ones(4, 2)}, r"result\['mask'\] has shape \[4, 2\]; expected \[4, 3\]"),
        ({"mask": torch.ones(4, 3)}, r"result\['mask'\] must be bool .*, not float32"),
        ({"tokens": None}, r"result has a 'mask' but no 'tokens' that it could belong to"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        check_result("result", WHOLE | changes, embedding_dim=6, num_classes=2)


@pytest.mark.parametrize("key", ["embedding", "logits"])
def test_a_missing_key_is_named_beside_those_found(key: str) -> None:
    result = {name: tensor for name, tensor in WHOLE.items() if name != key}
    with pytest.raises(ValueError, match=f"^result has no '{key}'; found: .*'tokens', 'mask'$"):
        check_result("result", result, embedding_dim=6, num_classes=2)


def test_something_else_than_a_dict_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be a dict with 'embedding' and 'logits', not Tens"):
        check_result("result", torch.zeros(2), 6, 2)  # type: ignore[arg-type]


def test_results_of_different_batches_are_refused() -> None:
    other = {"embedding": torch.zeros(3, 6)}
    with pytest.raises(ValueError, match="spectra_result has 4 samples, tabular_result has 3"):
        check_same_batch(WHOLE, other)
