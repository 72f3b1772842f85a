"""Sizes that do not fit are refused in one line each."""

from __future__ import annotations

import pytest
import torch

from models.size_checks import check_heads, check_sizes, check_spec_len, check_tab_dim


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
