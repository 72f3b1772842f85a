from __future__ import annotations

import numpy as np
import pytest

from datasets.augmentations import Mixup
from datasets.batches import Sample
from tests.datasets.augmentations.made_scans import rng

# Scan i of ours is i; scan j of the other is 100 * (j + 1): what was mixed with what can be told.
OURS = Sample(
    np.arange(3, dtype=np.float32)[:, None].repeat(5, 1), np.zeros(2, np.float32), 1, "ours"
)
OTHER = Sample(
    np.arange(100, 500, 100, dtype=np.float32)[:, None].repeat(5, 1),
    np.array([1, 10], np.float32),
    1,
    "other",
)


def mixed(seed: int, alpha: float = 0.4) -> tuple[Sample, float]:
    """The mixture, and the share of the other one, as the covariates tell."""
    sample = Mixup(alpha).mix(OURS, OTHER, rng(seed))
    return sample, float(sample.tabular[0])


def test_scans_and_covariates_are_mixed_by_one_share():
    shares = []
    for seed in range(300):
        sample, share = mixed(seed)
        assert sample.tabular[1] == pytest.approx(10 * share)
        partners = (sample.spectra - (1 - share) * OURS.spectra) / max(share, 1e-6) / 100
        if share > 1e-3:
            np.testing.assert_allclose(partners, partners.round(), atol=1e-2)
            assert set(partners.round().ravel()) <= {1, 2, 3, 4}
        shares.append(share)
    drawn = np.random.default_rng(0).beta(0.4, 0.4, 10000)
    assert max(shares) <= 0.5
    assert np.mean(shares) == pytest.approx(np.minimum(drawn, 1 - drawn).mean(), abs=0.02)


def test_each_scan_is_mixed_with_any_of_the_others():
    seen = set()
    for seed in range(200):
        sample, share = mixed(seed, alpha=50)
        partner = (sample.spectra[1, 0] - (1 - share)) / share / 100
        seen.add(round(float(partner)))
    assert seen == {1, 2, 3, 4}


def test_what_it_is_stays_what_it_was():
    sample, _ = mixed(0)
    assert (sample.target, sample.sample_id, len(sample.spectra)) == (1, "ours", 3)


def test_the_smaller_alpha_the_less_is_mixed():
    means = [np.mean([mixed(seed, alpha)[1] for seed in range(200)]) for alpha in (0.001, 0.2, 5)]
    assert means[0] < 0.02 < means[1] < means[2]


def test_offsets_are_mixed_as_covariates_are():
    ours = OURS._replace(offset=np.array([0, 0], np.float32))
    other = OTHER._replace(offset=np.array([1, -2], np.float32))
    mixture = Mixup().mix(ours, other, rng(1))
    share = mixture.tabular[0]
    assert 0 < share <= 0.5
    assert mixture.offset is not None
    assert mixture.offset.tolist() == pytest.approx([share, -2 * share])
    assert mixture.offset.dtype == np.float32
    assert Mixup().mix(OURS, OTHER, rng(1)).offset is None
