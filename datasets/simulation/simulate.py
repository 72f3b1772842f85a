"""The built-in cohort: simulated serum spectra with covariates and known truth."""

import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from datasets.errors import CohortError
from datasets.simulation.calibration import draw_warp
from datasets.simulation.generating_model import (
    CLASSES,
    DISEASE_PEAK_DIRECTIONS,
    DISEASE_PEAK_EFFECTS,
    MONTE_CARLO_PATIENTS,
    UNITS,
    Patients,
    auroc_of_ratios,
    bayes_auroc,
    draw_patients,
    has_formula,
    log_likelihood_ratios,
    monte_carlo_error,
)
from datasets.simulation.maldi import draw_peaks, make_axis, render_scans
from datasets.simulation.peaks import PeakList
from datasets.simulation.settings import (
    CATEGORICAL,
    DEFAULT_SETTINGS,
    KEPT_COVARIATES,
    NUMERIC,
    SimulationSettings,
)
from datasets.simulation.vibrational import (
    VIBRATIONAL,
    draw_bands,
    make_even_axis,
    render_bands,
)

# As the first version wrote it: a cached cohort with another name would be refused.
GENERATOR = "datasets.simulate.simulate_cohort"
# Raise it whenever the same arguments would give other data.
GENERATOR_VERSION = 1
COHORT_FILES = ("samples.csv", "scans.csv", "spectra.npy", "axis.npy", "truth.yaml", "truth.csv")
MIN_SAMPLES = 10
MIN_SPEC_LEN = 64
# In words.
TECHNIQUE_NAMES = {"maldi": "MALDI-TOF", "raman": "Raman", "ftir": "FT-IR", "nir": "NIR"}


@dataclass(frozen=True)
class DiseasePeak:
    """A peak that is higher (+1) or lower (-1) in cases, by ``effect`` standard deviations."""

    position: float
    direction: int
    effect: float


@dataclass(frozen=True)
class SimulatedCohort:
    """A simulated cohort's folder and the truth about it.

    ``peaks`` are the places of all peaks on the axis, ``ceilings`` the best AUROC from
    `covariates`, `spectra` and `both`, ``classes`` the labels, negative class first.
    ``interacting_peaks`` are pairs of places, ``subtype_peaks`` those that each subtype raises.
    """

    root: Path
    seed: int
    peaks: tuple[float, ...]
    disease_peaks: tuple[DiseasePeak, ...]
    ceilings: dict[str, float]
    classes: tuple[str, ...]
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    interacting_peaks: tuple[tuple[float, ...], ...] = ()
    subtype_peaks: tuple[tuple[float, ...], ...] = ()


def simulate_cohort(
    root: str | Path,
    seed: int = 0,
    n_samples: int = 900,
    spec_len: int = 2048,
    max_scans: int = 8,
    settings: SimulationSettings = DEFAULT_SETTINGS,
) -> SimulatedCohort:
    """Write a simulated cohort to a folder, once, and return the truth about it.

    One sample per patient, 1 to `max_scans` scans each. 40% of the patients are cases. By default
    the spectra are MALDI-TOF from m/z 2,000 to 20,000, and the label depends on both modalities:
    the best possible AUROC is 0.80 from the covariates alone, 0.92 from the spectra alone and 0.95
    from both (`bayes_auroc`). `truth.yaml` holds the truth about the cohort, `truth.csv` each
    patient's exact log-likelihood ratios. The same seed gives the same bytes.

    A folder that already holds this very cohort is used as it is. Otherwise the cohort is written
    aside and renamed, so that several processes may ask for the same folder at once. CohortError
    where an argument is out of range, the folder cannot be written, or it holds anything else.
    """
    root = Path(root)
    generator = {
        "name": GENERATOR,
        "version": GENERATOR_VERSION,
        "seed": _checked("seed", seed, 0),
        "n_samples": _checked("n_samples", n_samples, MIN_SAMPLES),
        "spec_len": _checked("spec_len", spec_len, MIN_SPEC_LEN),
        "max_scans": _checked("max_scans", max_scans, 1),
        **settings.changed(),
    }
    aside = root.parent / f".{root.name}.{uuid.uuid4().hex}.partial"
    try:
        if _is_free(root):
            aside.mkdir(parents=True)
            _write(aside, generator, settings)
            try:
                os.rename(aside, root)  # replaces an empty folder, never a filled one
            except OSError:
                if _is_free(root):
                    raise
                _require_same(root, generator)  # another process was quicker: it is this one
        else:
            _require_same(root, generator)
    except OSError as error:
        raise CohortError(
            f"cannot write the simulated cohort to {root} ({error.strerror}); a folder that "
            "can be written was expected"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return read_truth(root)


def read_truth(root: str | Path) -> SimulatedCohort:
    """The truth about a simulated cohort from its folder; CohortError for any other folder."""
    root = Path(root)
    try:
        truth = yaml.safe_load((root / "truth.yaml").read_text(encoding="utf-8"))
        truth["disease_peaks"] = [
            DiseasePeak(peak["mz"], peak["direction"], peak["effect"])
            for peak in truth["disease_peaks"]
        ]
        names = ("peaks", "disease_peaks", "classes", "numeric", "categorical")
        lists: dict[str, Any] = {name: tuple(truth[name]) for name in names}
        for name in ("interacting_peaks", "subtype_peaks"):
            lists[name] = tuple(map(tuple, truth.get(name, ())))
        return SimulatedCohort(root=root, seed=truth["seed"], ceilings=truth["ceilings"], **lists)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as error:
        raise CohortError(
            f"{root}: expected a simulated cohort with a whole truth.yaml; real cohorts have none"
        ) from error


def _checked(name: str, value: int, minimum: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < minimum:
        raise CohortError(
            f"simulated cohort: {name} has to be a whole number of at least {minimum}, "
            f"not {value!r}; the nearest valid choice is {minimum}"
        )
    return int(value)


def _is_free(root: Path) -> bool:
    return not os.path.lexists(root) or (root.is_dir() and not any(root.iterdir()))


def _require_same(root: Path, generator: dict[str, Any]) -> None:
    try:
        found = yaml.safe_load((root / "cohort.yaml").read_text(encoding="utf-8"))["generator"]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
        found = None
    if found != generator:
        what = "something other than a simulated cohort"
        if isinstance(found, dict) and found.get("name") == GENERATOR:
            differing = [
                f"{key} {found.get(key)}, not {value}"
                for key, value in {**dict.fromkeys(found), **generator}.items()
                if found.get(key) != value
            ]
            what = f"another simulated cohort ({', '.join(differing)})"
        raise CohortError(
            f"{root} already holds {what}; nothing was overwritten: name another folder or "
            "remove this one"
        )
    missing = [name for name in COHORT_FILES if not (root / name).is_file()]
    if missing:
        raise CohortError(
            f"{root}: the simulated cohort has lost {', '.join(missing)}; remove the folder and "
            "it is written anew"
        )


def _write(folder: Path, generator: dict[str, Any], settings: SimulationSettings) -> None:
    streams = np.random.SeedSequence(generator["seed"]).spawn(5)
    peak_rng, patient_rng, scan_rng, render_rng, warp_rng = map(np.random.default_rng, streams)
    n_samples, spec_len = generator["n_samples"], generator["spec_len"]
    patients = draw_patients(n_samples, patient_rng, settings)
    n_scans = scan_rng.integers(1, generator["max_scans"], size=n_samples, endpoint=True)
    scan_patient = np.repeat(np.arange(n_samples), n_scans)
    warp = draw_warp(len(scan_patient), settings.calibration_shift, warp_rng)
    technique = VIBRATIONAL.get(settings.technique)
    if technique is None:
        peaks, axis = draw_peaks(peak_rng, settings), make_axis(spec_len)
        blocks = render_scans(patients, scan_patient, peaks, axis, render_rng, warp)
    else:
        peaks = draw_bands(technique, peak_rng, settings)
        axis = make_even_axis(technique, spec_len)
        blocks = render_bands(
            technique,
            patients,
            scan_patient,
            peaks,
            axis,
            render_rng,
            warp,
            settings.cosmic_spikes,
        )

    np.save(folder / "axis.npy", axis.astype(np.float32))
    spectra = np.lib.format.open_memmap(
        folder / "spectra.npy", "w+", np.float32, (len(scan_patient), len(axis))
    )
    row = 0
    for block in blocks:
        spectra[row : row + len(block)] = block
        row += len(block)
    spectra.flush()

    ids = [f"S{number:04d}" for number in range(1, n_samples + 1)]
    frame = pd.DataFrame(
        {
            "sample_id": ids,
            "group": [name.replace("S", "P") for name in ids],
            "label": np.where(patients.case, *CLASSES[::-1]),
            "plate": [f"plate{number + 1:02d}" for number in patients.plate],
        }
    ).join(patients.covariates)
    frame.to_csv(folder / "samples.csv", index=False, float_format="%.5g")
    scan = np.concatenate([np.arange(n) for n in n_scans])
    scans = pd.DataFrame({"sample_id": np.repeat(ids, n_scans), "scan": scan})
    scans.to_csv(folder / "scans.csv", index=False)
    ratios = pd.DataFrame({"sample_id": ids, **log_likelihood_ratios(patients, settings)})
    ratios.to_csv(folder / "truth.csv", index=False, float_format="%.6g")
    _dump(folder / "truth.yaml", _truth(peaks, generator["seed"], patients, settings))
    _dump(folder / "cohort.yaml", _description(generator, patients, settings))


def _truth(
    peaks: PeakList, seed: int, patients: Patients, settings: SimulationSettings
) -> dict[str, Any]:
    columns = {
        "mz": peaks.position[peaks.disease],  # the first version's key, whatever the axis
        "direction": DISEASE_PEAK_DIRECTIONS,
        "effect": settings.main_effects * np.array(DISEASE_PEAK_EFFECTS),
    }
    disease = pd.DataFrame(columns).sort_values("mz")
    ceilings = bayes_auroc(settings=settings)
    truth = {
        "seed": seed,
        "classes": list(CLASSES),
        "numeric": _kept(NUMERIC, settings),
        "categorical": _kept(CATEGORICAL, settings),
        "ceilings": ceilings,
        "disease_peaks": disease[disease["effect"] > 0].to_dict("records"),
        "peaks": peaks.position.tolist(),
    }
    if settings.changed():
        how = "exact, from the Gaussian log-likelihood ratio of the latent heights and covariates"
        if not has_formula(settings):
            error = max(map(monte_carlo_error, ceilings.values()))
            how = (
                f"AUROC of the exact log-likelihood ratio of the latent heights and covariates, of "
                f"{MONTE_CARLO_PATIENTS} drawn patients; standard error below {error:.4f}"
            )
        truth["ceilings_from"] = how
        truth["auroc_of_drawn"] = auroc_of_ratios(patients, settings)
        truth["interacting_peaks"] = peaks.position[peaks.pairs].tolist()
        truth["subtype_peaks"] = peaks.position[peaks.subtypes].tolist()
    return truth


def _kept(names: tuple[str, ...], settings: SimulationSettings) -> list[str]:
    return [name for name in names if name in KEPT_COVARIATES[settings.covariates]]


def _description(
    generator: dict[str, Any], patients: Patients, settings: SimulationSettings
) -> dict[str, Any]:
    technique = VIBRATIONAL.get(settings.technique)
    measured = ("m/z", "ion counts")
    if technique is not None:
        measured = (technique.unit, technique.intensity)
    kept = KEPT_COVARIATES[settings.covariates]
    return {
        "name": f"simulated serum {TECHNIQUE_NAMES[settings.technique]} cohort",
        "description": f"{int(patients.case.sum())} cases and {int((~patients.case).sum())} "
        "controls, drawn from a known generating model; no real patient is in it",
        "licence": "CC0-1.0",
        "roles": {
            "label": "label",
            "group": "group",
            "numeric": _kept(NUMERIC, settings),
            "categorical": _kept(CATEGORICAL, settings),
        },
        "units": {
            "axis": measured[0],
            "spectra": measured[1],
            **{name: unit for name, unit in UNITS.items() if name in kept},
        },
        "generator": generator,
    }


def _dump(path: Path, content: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
