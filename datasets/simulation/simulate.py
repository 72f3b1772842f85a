"""The built-in cohort: simulated serum MALDI-TOF spectra with covariates and known truth."""

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
from datasets.simulation.generating_model import (
    CATEGORICAL,
    CLASSES,
    DISEASE_PEAK_DIRECTIONS,
    DISEASE_PEAK_EFFECTS,
    NUMERIC,
    UNITS,
    Patients,
    PeakList,
    bayes_auroc,
    draw_patients,
    draw_peaks,
    log_likelihood_ratios,
    make_axis,
    render_scans,
)

# As the first version wrote it: a cached cohort with another name would be refused.
GENERATOR = "datasets.simulate.simulate_cohort"
# Raise it whenever the same arguments would give other data.
GENERATOR_VERSION = 1
COHORT_FILES = ("samples.csv", "scans.csv", "spectra.npy", "axis.npy", "truth.yaml", "truth.csv")
MIN_SAMPLES = 10
MIN_SPEC_LEN = 64


@dataclass(frozen=True)
class DiseasePeak:
    """A peak that is higher (+1) or lower (-1) in cases, by ``effect`` standard deviations."""

    mz: float
    direction: int
    effect: float


@dataclass(frozen=True)
class SimulatedCohort:
    """A simulated cohort's folder and the truth about it.

    ``peaks`` are the m/z of all peaks, ``ceilings`` the best AUROC from `covariates`, `spectra` and
    `both`, ``classes`` the labels, negative class first.
    """

    root: Path
    seed: int
    peaks: tuple[float, ...]
    disease_peaks: tuple[DiseasePeak, ...]
    ceilings: dict[str, float]
    classes: tuple[str, ...]
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]


def simulate_cohort(
    root: str | Path, seed: int = 0, n_samples: int = 900, spec_len: int = 2048, max_scans: int = 8
) -> SimulatedCohort:
    """Write a simulated serum MALDI-TOF cohort to a folder, once, and return the truth about it.

    One sample per patient, 1 to `max_scans` scans each, on an axis from m/z 2,000 to 20,000. 40% of
    the patients are cases. The label depends on both modalities: the best possible AUROC is 0.80
    from the covariates alone, 0.92 from the spectra alone and 0.95 from both (`bayes_auroc`).
    `truth.yaml` holds the truth about the cohort, `truth.csv` each patient's exact log-likelihood
    ratios. The same seed gives the same bytes.

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
    }
    aside = root.parent / f".{root.name}.{uuid.uuid4().hex}.partial"
    try:
        if _is_free(root):
            aside.mkdir(parents=True)
            _write(aside, generator)
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
        truth["disease_peaks"] = [DiseasePeak(**peak) for peak in truth["disease_peaks"]]
        names = ("peaks", "disease_peaks", "classes", "numeric", "categorical")
        lists: dict[str, Any] = {name: tuple(truth[name]) for name in names}
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
                for key, value in generator.items()
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


def _write(folder: Path, generator: dict[str, Any]) -> None:
    streams = np.random.SeedSequence(generator["seed"]).spawn(4)
    peak_rng, patient_rng, scan_rng, render_rng = map(np.random.default_rng, streams)
    n_samples = generator["n_samples"]
    peaks = draw_peaks(peak_rng)
    patients = draw_patients(n_samples, patient_rng)
    n_scans = scan_rng.integers(1, generator["max_scans"], size=n_samples, endpoint=True)
    scan_patient = np.repeat(np.arange(n_samples), n_scans)
    axis = make_axis(generator["spec_len"])

    np.save(folder / "axis.npy", axis.astype(np.float32))
    spectra = np.lib.format.open_memmap(
        folder / "spectra.npy", "w+", np.float32, (len(scan_patient), len(axis))
    )
    row = 0
    for block in render_scans(patients, scan_patient, peaks, axis, render_rng):
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
    ratios = pd.DataFrame({"sample_id": ids, **log_likelihood_ratios(patients)})
    ratios.to_csv(folder / "truth.csv", index=False, float_format="%.6g")
    _dump(folder / "truth.yaml", _truth(peaks, generator["seed"]))
    _dump(folder / "cohort.yaml", _description(generator, patients))


def _truth(peaks: PeakList, seed: int) -> dict[str, Any]:
    columns = {
        "mz": peaks.mz[peaks.disease],
        "direction": DISEASE_PEAK_DIRECTIONS,
        "effect": DISEASE_PEAK_EFFECTS,
    }
    disease = pd.DataFrame(columns).sort_values("mz").to_dict("records")
    return {
        "seed": seed,
        "classes": list(CLASSES),
        "numeric": list(NUMERIC),
        "categorical": list(CATEGORICAL),
        "ceilings": bayes_auroc(),
        "disease_peaks": disease,
        "peaks": peaks.mz.tolist(),
    }


def _description(generator: dict[str, Any], patients: Patients) -> dict[str, Any]:
    return {
        "name": "simulated serum MALDI-TOF cohort",
        "description": f"{int(patients.case.sum())} cases and {int((~patients.case).sum())} "
        "controls, drawn from a known generating model; no real patient is in it",
        "licence": "CC0-1.0",
        "roles": {
            "label": "label",
            "group": "group",
            "numeric": list(NUMERIC),
            "categorical": list(CATEGORICAL),
        },
        "units": {"axis": "m/z", "spectra": "ion counts", **UNITS},
        "generator": generator,
    }


def _dump(path: Path, content: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
