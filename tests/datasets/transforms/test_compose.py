from __future__ import annotations

import numpy as np
import pytest
import torch

from datasets.errors import UsageError
from datasets.specs import Spec
from datasets.transforms import SNIP, TIC, Compose, Crop, Sqrt, Standardize, make_transforms
from tests.datasets.transforms.made_spectra import make_axis, spectra


def test_each_stage_is_fitted_on_the_output_of_those_before_it():
    scans = spectra()
    rows = np.arange(0, 200, 2)
    both = make_transforms(["standardize", "tic", "sqrt", "standardize"]).fit(scans, rows)
    first = Standardize().fit([scans[rows]])
    between = Sqrt()(TIC()(first(scans)))
    last = Standardize().fit([between[rows]])
    np.testing.assert_allclose(both(scans), last(between), rtol=1e-5, atol=1e-6)


def test_only_the_given_rows_are_learnt_from():
    scans = spectra()
    fitted = make_transforms(["standardize"]).fit(scans, np.arange(100))(scans)
    changed = scans.copy()
    changed[100:] *= 5
    again = make_transforms(["standardize"]).fit(changed, np.arange(100)[::-1])(scans)
    np.testing.assert_array_equal(fitted, again)
    assert not np.array_equal(fitted, make_transforms(["standardize"]).fit(scans)(scans))


def test_a_saved_state_does_not_follow_a_later_fit():
    transforms = make_transforms(["standardize"]).fit(spectra())
    state = transforms.state_dict()
    mean = state["states"][0]["mean"].clone()
    transforms.transforms[0].mean += 1  # type: ignore[attr-defined]
    assert torch.equal(state["states"][0]["mean"], mean)


def test_an_unfitted_state_can_be_saved_too():
    empty = make_transforms(["standardize"])
    fitted = make_transforms(["standardize"]).fit(spectra())
    fitted.load_state_dict(empty.state_dict())
    with pytest.raises(RuntimeError, match="before fit"):
        fitted(spectra())


def test_a_state_of_other_transforms_is_refused():
    state = make_transforms(["tic", "sqrt"]).state_dict()
    with pytest.raises(
        UsageError, match=r"transforms are \[tic, sqrt\]; \[tic, log1p\] are asked for"
    ):
        make_transforms(["tic", "log1p"]).load_state_dict(state)


def test_a_state_without_an_axis_is_still_loaded():
    scans = spectra()
    fitted = make_transforms(["tic", "sqrt", "standardize"]).fit(scans, axis=make_axis(30))
    state = fitted.state_dict()
    del state["axis"]
    loaded = make_transforms(["tic", "sqrt", "standardize"])
    loaded.load_state_dict(state)
    np.testing.assert_array_equal(loaded(scans), fitted(scans))
    assert loaded.axis is None
    assert loaded.spec_len is None


def test_the_axis_passes_through_the_transforms_in_their_order():
    steps: list[Spec] = [
        {"name": "crop", "params": {"low": 1200, "high": 1800}},
        "tic",
        {"name": "resample", "params": {"step": 200}},
        {"name": "crop", "params": {"low": 1400}},
        "standardize",
    ]
    scans = spectra(points=101)
    transforms = make_transforms(steps).fit(scans, axis=make_axis(101))
    assert transforms.axis is not None
    assert transforms.axis.tolist() == [1400, 1600, 1800]
    assert transforms.spec_len == 3
    assert transforms(scans).shape == (200, 3)
    assert transforms.transforms[-1].mean.shape == (3,)  # type: ignore[attr-defined]
    assert transforms.describe() == ["the transforms leave 3 of 101 points (1400 to 1800)"]


def test_raw_scans_are_only_brought_onto_the_axis():
    scans = spectra(points=101)
    crop: Spec = {"name": "crop", "params": {"low": 1500}}
    transforms = make_transforms(["snip", "sqrt", crop, "standardize"])
    transforms.fit(scans, axis=make_axis(101))
    np.testing.assert_array_equal(transforms.place(scans), scans[:, 50:])
    np.testing.assert_array_equal(make_transforms(["tic"]).fit(scans).place(scans), scans)


def test_fitting_again_on_another_axis_takes_that_one():
    transforms = make_transforms([{"name": "crop", "params": {"low": 1500}}])
    transforms.fit(spectra(points=11), axis=make_axis(11))
    transforms.fit(spectra(points=101), axis=make_axis(101))
    assert transforms(spectra(points=101)).shape == (200, 51)


def test_what_does_not_suit_the_axis_is_refused():
    crop = {"name": "crop", "params": {"low": 5000}}
    with pytest.raises(UsageError, match="crop: no point of the axis, 1000 to 2000, lies between"):
        make_transforms(["tic", crop]).fit(spectra(), axis=make_axis(30))


def test_a_transform_of_undeclared_length_is_named():
    class Thin:
        def __call__(self, scans: np.ndarray) -> np.ndarray:
            return scans[..., ::2]

    with pytest.raises(UsageError, match="transform Thin leaves 15 points of 30, but says 30; its"):
        make_transforms(["tic", Thin, "standardize"]).fit(spectra(), axis=make_axis(30))

    class ThinAndSaysSo(Thin):
        def set_axis(self, axis: np.ndarray) -> np.ndarray:
            return axis[::2]

    transforms = make_transforms(["tic", ThinAndSaysSo]).fit(spectra(), axis=make_axis(30))
    assert transforms(spectra()).shape == (200, transforms.spec_len)


class Centre:
    """Subtracts the mean training scan, kept as NumPy's array."""

    mean: np.ndarray

    def fit(self, chunks) -> None:
        self.mean = np.concatenate(list(chunks)).mean(axis=0)

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        return scans - self.mean


class CentreWithState(Centre):
    def state_dict(self) -> dict[str, np.ndarray]:
        return {"mean": self.mean}

    def load_state_dict(self, state) -> None:
        self.mean = state["mean"]


def test_a_fitted_transform_without_a_state_is_refused():
    with pytest.raises(UsageError, match="Centre has fit: it needs state_dict and load_state_dict"):
        make_transforms([Centre]).fit(spectra())


def test_a_state_of_numpy_is_refused():
    with pytest.raises(UsageError, match="CentreWithState: its state 'mean' is of NumPy; a state"):
        make_transforms([CentreWithState]).fit(spectra())


def test_a_transform_that_makes_nan_is_named():
    class Nowhere:
        def __call__(self, scans: np.ndarray) -> np.ndarray:
            return np.full_like(scans, np.nan)

    with pytest.raises(UsageError, match="transform Nowhere makes NaN or infinite values"):
        make_transforms(["tic", Nowhere]).fit(spectra(), axis=make_axis(30))


def test_names_and_instances_make_the_same():
    scans, axis = spectra(points=101), make_axis(101)
    by_hand = Compose([SNIP(7), TIC(), Sqrt(), Crop(high=1500), Standardize()]).fit(
        scans, axis=axis
    )
    named = make_transforms(
        [
            {"name": "snip", "params": {"half_window": 7}},
            "tic",
            "sqrt",
            {"name": "crop", "params": {"high": 1500}},
            "standardize",
        ]
    ).fit(scans, axis=axis)
    np.testing.assert_array_equal(by_hand(scans), named(scans))
    assert by_hand.state_dict()["names"] == ["snip", "tic", "sqrt", "crop", "standardize"]


MALDI: list[Spec] = [
    "tic",
    {"name": "bin", "params": {"width": 3}},
    "clr",
    {"name": "standardize", "params": {"min_std": 0.1, "relative_to": "median", "clip": 8}},
]


def test_scans_are_binned_and_become_standardised_log_ratios():
    scans, rows = spectra(points=100), np.arange(0, 200, 2)
    scans[scans < 200] = 0
    transforms = make_transforms(MALDI).fit(scans, rows, make_axis(100))
    assert transforms.spec_len == 34
    wanted = scans.astype(np.float64) / scans.mean(axis=1, keepdims=True, dtype=np.float64)
    wanted = np.stack([wanted[:, i : i + 3].mean(axis=1) for i in range(0, 100, 3)], axis=1)
    trained = wanted[rows]
    wanted = np.log(wanted + np.quantile(trained[trained > 0], 0.05))
    wanted -= wanted.mean(axis=1, keepdims=True)
    deviation = wanted[rows].std(axis=0)
    wanted -= wanted[rows].mean(axis=0)
    wanted /= np.maximum(deviation, 0.1 * np.median(deviation))
    np.testing.assert_allclose(transforms(scans), np.clip(wanted, -8, 8), atol=5e-3)
    loaded = make_transforms(MALDI)
    loaded.load_state_dict(transforms.state_dict())
    np.testing.assert_array_equal(loaded(scans), transforms(scans))


def test_the_offset_is_of_the_scans_as_those_before_leave_them():
    log: Spec = {"name": "log", "params": {"quantile": 0.05}}
    scans, rows = spectra(), np.arange(100)
    transforms = make_transforms(["tic", log, "snv"]).fit(scans, rows)
    divided = TIC()(scans[rows])
    found = transforms.transforms[1].offset
    assert found == pytest.approx(np.quantile(divided, 0.05), rel=1e-3)


def test_no_transform_changes_nothing():
    scans = spectra()
    np.testing.assert_array_equal(make_transforms([]).fit(scans)(scans), scans)


def test_a_class_of_the_users_own_takes_part():
    class Halve:
        def __call__(self, scans: np.ndarray) -> np.ndarray:
            return scans / 2

    transforms = make_transforms(["tic", Halve])
    np.testing.assert_allclose(transforms(spectra()).mean(axis=1), 0.5, rtol=1e-5)
    assert transforms.state_dict()["names"] == ["tic", "Halve"]


def test_unknown_names_and_parameters_name_the_nearest():
    with pytest.raises(UsageError, match=r"unknown transform 'sqr'; did you mean 'sqrt'\?"):
        make_transforms(["sqr"])
    with pytest.raises(UsageError, match="transform 'standardize' has no parameter 'minstd'; did"):
        make_transforms([{"name": "standardize", "params": {"minstd": 1}}])
    with pytest.raises(UsageError, match="transform 'sqrt' has no parameter 'p'"):
        make_transforms([{"name": "sqrt", "params": {"p": 1}}])


def test_a_real_cohort_passes_through(real_data):
    folder = real_data / "hcc_serum_glycome_maldi"
    scans = np.load(folder / "spectra.npy", mmap_mode="r")
    align: Spec = {"name": "align", "params": {"max_shift": 2}}
    steps = ["snip", align, "tic", "sqrt", "standardize"]
    transforms = make_transforms(steps).fit(scans, axis=np.load(folder / "axis.npy"))
    assert np.isfinite(transforms(scans[:50])).all()
    assert transforms.transforms[1].unaligned < 0.1 * len(scans)  # type: ignore[attr-defined]
