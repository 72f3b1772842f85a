from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import roc_auc_score

from datasets.cohort import Cohort
from datasets.errors import CohortError
from datasets.simulation import simulate
from datasets.simulation.generating_model import bayes_auroc, has_formula
from datasets.simulation.settings import SimulationSettings
from datasets.simulation.simulate import SimulatedCohort, read_truth, simulate_cohort

SMALL: dict[str, Any] = {"n_samples": 24, "spec_len": 256, "max_scans": 3}


@pytest.fixture(scope="module")
def default(tmp_path_factory: pytest.TempPathFactory) -> SimulatedCohort:
    return simulate_cohort(tmp_path_factory.mktemp("cache") / "cohort")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
def test_the_default_cohort_has_its_size_and_can_be_read(
    default: SimulatedCohort,
) -> None:
    labels = {name: number for number, name in enumerate(default.classes)}
    cohort = Cohort.read(default.root, labels=labels)
    assert cohort.class_names == ["control", "case"]
    assert np.bincount(cohort.targets).tolist() == [540, 360]
    assert tuple(cohort.numeric) == default.numeric
    assert tuple(cohort.categorical) == default.categorical
    assert len(set(cohort.groups)) == 900  # a group is a patient
    n_scans = [len(rows) for rows in cohort.scan_rows]
    assert sorted(set(n_scans)) == list(range(1, 9))
    assert cohort.spectra.dtype == np.float32
    assert cohort.spectra.shape == (sum(n_scans), 2048)
    steps = np.diff(np.sqrt(cohort.axis.astype(float)))
    assert (cohort.axis[0], cohort.axis[-1]) == (2_000, 20_000)
    np.testing.assert_allclose(steps, steps.mean(), rtol=0.01)
    assert pd.read_csv(default.root / "samples.csv")["plate"].nunique() == 12


def test_description_names_roles_units_licence_and_generator(default: SimulatedCohort) -> None:
    described = yaml.safe_load((default.root / "cohort.yaml").read_text())
    roles = described["roles"]
    assert (roles["label"], roles["group"]) == ("label", "group")
    assert "plate" not in [*roles["numeric"], *roles["categorical"]]
    assert {"axis", *roles["numeric"]} <= set(described["units"])
    assert described["licence"] == "CC0-1.0"
    generator = described["generator"]
    assert (generator["seed"], generator["n_samples"], generator["spec_len"]) == (0, 900, 2048)
    assert generator["version"] == simulate.GENERATOR_VERSION


def test_truth_is_read_back_whole(default: SimulatedCohort) -> None:
    assert read_truth(str(default.root)) == default
    assert default.ceilings == bayes_auroc()
    samples, ratios = (pd.read_csv(default.root / f"{name}.csv") for name in ("samples", "truth"))
    assert ratios["sample_id"].tolist() == samples["sample_id"].tolist()
    # 900 patients are a draw: their AUROC stays within 4 standard errors of the ceiling.
    for name, tolerance in [("covariates", 0.06), ("spectra", 0.04), ("both", 0.03)]:
        reached = roc_auc_score(samples["label"] == "case", ratios[name])
        assert reached == pytest.approx(default.ceilings[name], abs=tolerance)


def test_a_real_cohort_has_no_truth(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match=r"truth\.yaml"):
        read_truth(tmp_path)


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second, other = (tmp_path / name for name in ("first", "second", "other"))
    simulate_cohort(first, seed=3, **SMALL)
    simulate_cohort(second, seed=3, **SMALL)
    simulate_cohort(other, seed=4, **SMALL)
    assert contents(first) == contents(second)
    for name in ("spectra.npy", "samples.csv", "truth.yaml"):
        assert contents(first)[name] != contents(other)[name]


# SHA-256 of what the first version wrote, which lies in users' caches.
FIRST_VERSION = {
    "spectra.npy": "f2b7459853aea8e0523e569639ff20616afae99e32d6ef2a1b31408814513a1f",
    "samples.csv": "6c1ee108629bef19fbcfdc3c14bcd300eaef13f4446f816e35a2ffaa6a7941f2",
    "scans.csv": "3b68639a0439c42bd610236bba81f6f6ab9ae408d6f78bf68ae9587f4afaf84a",
    "truth.csv": "4d537b8a6fc51dc3bb0f8fe3e07c01d2700937ad6fab19427b231c323805590c",
    "cohort.yaml": "b00bdcc4f332d11524a7a18eb581fc4f88a7a457c8fece72457577b1d9edf0ba",
}


def test_default_settings_give_the_first_versions_bytes(tmp_path: Path) -> None:
    files = contents(simulate_cohort(tmp_path / "cohort", seed=3, **SMALL).root)
    found = {name: hashlib.sha256(files[name]).hexdigest() for name in FIRST_VERSION}
    assert found == FIRST_VERSION


EVERYTHING = SimulationSettings("raman", "few", 0.5, 0.6, 3, 2.0, 0.5)
OTHERS = [
    EVERYTHING,
    SimulationSettings("ftir", covariates="none", calibration_shift=1.0),
    SimulationSettings("nir", interactions=0.5),
    SimulationSettings(main_effects=0.0, subtypes=2),
]


@pytest.mark.parametrize("settings", OTHERS, ids=["raman", "ftir", "nir", "maldi"])
def test_every_technique_follows_its_seed(tmp_path: Path, settings: SimulationSettings) -> None:
    first, second, other = (tmp_path / name for name in ("first", "second", "other"))
    simulate_cohort(first, seed=3, settings=settings, **SMALL)
    simulate_cohort(second, seed=3, settings=settings, **SMALL)
    simulate_cohort(other, seed=4, settings=settings, **SMALL)
    assert contents(first) == contents(second)
    assert contents(first)["spectra.npy"] != contents(other)["spectra.npy"]


@pytest.mark.parametrize("technique", ["maldi", "nir"])
@pytest.mark.parametrize(
    "changed",
    [{"calibration_shift": 2.0}, {"main_effects": 2.0}, {"interactions": 0.5}, {"subtypes": 2}],
    ids=lambda changed: next(iter(changed)),
)
def test_every_strength_changes_the_spectra(
    tmp_path: Path, technique: Any, changed: dict[str, Any]
) -> None:
    without, with_it = (
        simulate_cohort(tmp_path / name, settings=SimulationSettings(technique, **more), **SMALL)
        for name, more in (("without", {}), ("with", changed))
    )
    spectra = [np.load(cohort.root / "spectra.npy") for cohort in (without, with_it)]
    assert spectra[0].shape == spectra[1].shape
    assert not np.array_equal(*spectra)


def test_cosmic_spikes_reach_the_files(tmp_path: Path) -> None:
    settings = SimulationSettings("raman", cosmic_spikes=20.0)
    spectra = np.load(
        simulate_cohort(tmp_path / "c", settings=settings, **SMALL).root / "spectra.npy"
    )
    jumps = np.abs(np.diff(spectra.astype(float), axis=1)).max(axis=1)
    assert jumps.min() > 2_000  # bands of 600 counts, 10 points wide, never jump so far


@pytest.mark.parametrize("settings", OTHERS, ids=["raman", "ftir", "nir", "maldi"])
def test_the_best_auroc_is_stored_with_its_origin(
    tmp_path: Path, settings: SimulationSettings
) -> None:
    cohort = simulate_cohort(tmp_path / "c", 3, 300, 64, 1, settings)
    truth = yaml.safe_load((cohort.root / "truth.yaml").read_text())
    assert truth["ceilings"] == cohort.ceilings == bayes_auroc(settings=settings)
    assert truth["ceilings_from"].startswith("exact" if has_formula(settings) else "AUROC of")
    assert len(cohort.interacting_peaks) == (2 if settings.interactions else 0)
    assert [len(of) for of in cohort.subtype_peaks] == [3] * settings.subtypes
    places = [place for of in (*cohort.interacting_peaks, *cohort.subtype_peaks) for place in of]
    assert len(set(places)) == len(places)
    assert set(places) <= set(cohort.peaks)
    case = pd.read_csv(cohort.root / "samples.csv")["label"] == "case"
    ratios = pd.read_csv(cohort.root / "truth.csv")
    for name, stored in truth["auroc_of_drawn"].items():
        assert roc_auc_score(case, ratios[name]) == pytest.approx(stored, abs=1e-4)
        assert stored == pytest.approx(cohort.ceilings[name], abs=0.08)


def test_cohort_without_covariates_is_read(tmp_path: Path) -> None:
    cohort = simulate_cohort(
        tmp_path / "c", settings=SimulationSettings(covariates="none"), **SMALL
    )
    read = Cohort.read(cohort.root)
    assert (list(read.numeric), list(read.categorical)) == ([], [])
    assert cohort.numeric == cohort.categorical == ()


def test_peaks_without_an_effect_are_not_named_disease_peaks(tmp_path: Path) -> None:
    cohort = simulate_cohort(
        tmp_path / "c", settings=SimulationSettings(main_effects=0.0, interactions=0.5), **SMALL
    )
    assert cohort.disease_peaks == ()
    assert len(cohort.interacting_peaks) == 2


def test_sizes_are_arguments(tmp_path: Path) -> None:
    simulate_cohort(tmp_path / "cohort", **SMALL)
    scans = pd.read_csv(tmp_path / "cohort" / "scans.csv")["sample_id"].value_counts()
    assert (len(scans), scans.max()) == (24, 3)
    assert np.load(tmp_path / "cohort" / "spectra.npy").shape == (scans.sum(), 256)


def test_finished_cohort_is_used_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = simulate_cohort(tmp_path / "cohort", **SMALL)
    stamps = {path: path.stat().st_mtime_ns for path in written.root.iterdir()}
    monkeypatch.setattr(simulate, "render_scans", None)  # rendering again would fail
    assert simulate_cohort(tmp_path / "cohort", **SMALL) == written
    assert {path: path.stat().st_mtime_ns for path in written.root.iterdir()} == stamps


def test_empty_folder_and_missing_parents_are_filled(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for root in (tmp_path / "empty", tmp_path / "a" / "b"):
        assert len(Cohort.read(simulate_cohort(root, **SMALL).root).targets) == 24


@pytest.mark.parametrize("changed", [{"seed": 1}, {"n_samples": 25}, {"spec_len": 300}])
def test_another_simulated_cohort_is_refused_untouched(
    tmp_path: Path, changed: dict[str, int]
) -> None:
    simulate_cohort(tmp_path / "cohort", **SMALL)
    before = contents(tmp_path / "cohort")
    with pytest.raises(CohortError, match=f"another simulated cohort.*{next(iter(changed))}"):
        simulate_cohort(tmp_path / "cohort", **{**SMALL, **changed})
    assert contents(tmp_path / "cohort") == before


def test_other_settings_are_refused_and_named(tmp_path: Path) -> None:
    for settings, asked, told in [
        (SimulationSettings(), EVERYTHING, "technique None, not raman"),
        (EVERYTHING, SimulationSettings(), "technique raman, not None"),
    ]:
        simulate_cohort(tmp_path / asked.technique, settings=settings, **SMALL)
        with pytest.raises(CohortError, match=f"another simulated cohort.*{told}"):
            simulate_cohort(tmp_path / asked.technique, settings=asked, **SMALL)


def test_cohort_of_another_generator_version_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate_cohort(tmp_path / "cohort", **SMALL)
    monkeypatch.setattr(simulate, "GENERATOR_VERSION", simulate.GENERATOR_VERSION + 1)
    with pytest.raises(CohortError, match="version"):
        simulate_cohort(tmp_path / "cohort", **SMALL)


@pytest.mark.parametrize("description", [None, "roles: {}", "just text", "a: [", "generator: 3"])
def test_folder_of_something_else_is_refused_untouched(
    tmp_path: Path, description: str | None
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    if description is not None:
        (tmp_path / "cohort.yaml").write_text(description)
    before = contents(tmp_path)
    with pytest.raises(CohortError, match="something other than a simulated cohort"):
        simulate_cohort(tmp_path, **SMALL)
    assert contents(tmp_path) == before


def test_cohort_that_lost_a_file_says_so(tmp_path: Path) -> None:
    simulate_cohort(tmp_path / "cohort", **SMALL)
    (tmp_path / "cohort" / "scans.csv").unlink()
    with pytest.raises(CohortError, match=r"lost scans\.csv"):
        simulate_cohort(tmp_path / "cohort", **SMALL)


def test_file_in_the_way_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(CohortError) as raised:
            simulate_cohort(root, **SMALL)
        assert str(root) in str(raised.value)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "wrong", [{"seed": -1}, {"n_samples": 3}, {"spec_len": 10}, {"max_scans": 0}, {"seed": 1.5}]
)
def test_sizes_out_of_range_are_refused(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(CohortError, match=next(iter(wrong))):
        simulate_cohort(tmp_path / "cohort", **{**SMALL, **wrong})
    assert list(tmp_path.iterdir()) == []


def test_interrupted_writing_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = simulate.render_scans

    def cut_off(*args: Any) -> Iterator[np.ndarray]:
        yield next(whole(*args))[:1]
        raise KeyboardInterrupt

    monkeypatch.setattr(simulate, "render_scans", cut_off)
    with pytest.raises(KeyboardInterrupt):
        simulate_cohort(tmp_path / "cohort", **SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seed_of_the_quicker", [0, 1])
def test_a_second_process_uses_or_refuses_the_firsts_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed_of_the_quicker: int
) -> None:
    root, write = tmp_path / "cohort", simulate._write

    def overtaken(folder: Path, *given: Any) -> None:
        write(folder, *given)
        monkeypatch.setattr(simulate, "_write", write)
        simulate_cohort(root, seed=seed_of_the_quicker, **SMALL)

    monkeypatch.setattr(simulate, "_write", overtaken)
    if seed_of_the_quicker == 0:
        assert simulate_cohort(root, seed=0, **SMALL).seed == 0
    else:
        with pytest.raises(CohortError, match="another simulated cohort"):
            simulate_cohort(root, seed=0, **SMALL)
    assert read_truth(root).seed == seed_of_the_quicker
    assert list(tmp_path.iterdir()) == [root]


@pytest.mark.slow
def test_two_processes_at_once_get_the_same_cohort(tmp_path: Path) -> None:
    root = tmp_path / "cohort"
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(simulate_cohort, root, **SMALL) for _ in range(2)]
        first, second = (job.result(timeout=60) for job in jobs)
    assert first == second == read_truth(root)
    assert list(tmp_path.iterdir()) == [root]
