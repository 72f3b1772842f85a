"""Whether attributions point at what a model does rest on, where the truth is known."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from datasets.scans import iterate_chunks
from datasets.simulation import SimulatedCohort, read_truth
from engine.eval_mode import eval_mode
from engine.explain import WIDTH, Explained, Window, explain, top_windows, window_edges
from experiments.benchmarks.peak_memory import PeakMemory
from experiments.builders import Data, build_data, build_network
from experiments.config import Config, load_config
from experiments.run_files import RunFile

# Windows that are looked at for planted peaks, and windows whose loss should be felt.
TOP, REPLACED = 10, 6
RANDOM_DRAWS = 20
TIMED_SAMPLES = 500
QUANTILE = 0.95


@dataclass(frozen=True)
class AuditContext:
    """A trained model, one of the same make that learnt nothing, and the truth.

    Attributes:
        config: Of the run.
        data: Its cohort and loaders.
        model: With the run's weights.
        untrained: With fresh ones.
        truth: Of the simulated cohort.
        mean: The mean training scan [L] and covariates [D] as the model is given them.
    """

    config: Config
    data: Data
    model: nn.Module
    untrained: nn.Module
    truth: SimulatedCohort
    mean: tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Figures:
    """What was measured of one run.

    Attributes:
        seed: The run's.
        auroc: On its test side.
        found: Planted peaks within the highest windows.
        drop: By how much the predicted class's probability falls, on average, where the highest
            windows are replaced by the mean spectrum.
        random_drop: The same for as many windows on other true peaks, over many draws of them.
        gap: 95th percentile over the samples of |gap| / |change| of the explained score.
        untrained: Planted peaks that the untrained model's attributions find.
        seconds: For 500 samples.
        mebibytes: By which the process grew at its most meanwhile; what it had before it may use
            again.
    """

    seed: int
    auroc: float
    found: int
    drop: float
    random_drop: float
    gap: float
    untrained: int
    seconds: float
    mebibytes: float

    @property
    def ratio(self) -> float:
        """How many times more the highest windows matter than random ones."""
        return self.drop / self.random_drop if self.random_drop > 0 else float("inf")

    def plain(self) -> dict[str, float]:
        """All of them by name, the ratio too."""
        return {**asdict(self), "ratio": self.ratio}


def read_subject(run_dir: Path) -> AuditContext:
    """Load what a finished run on a simulated cohort left behind.

    Args:
        run_dir: Its folder.
    """
    config = load_config(str(run_dir / RunFile.CONFIG))
    fitted_on = ("train", "val") if config.trainer.refit else ("train",)
    data = build_data(config, run_dir / RunFile.SPLITS, fitted_on)
    model, untrained = (_build_model(config, data) for _ in range(2))
    model.load_state_dict(load_file(run_dir / RunFile.WEIGHTS))
    return AuditContext(
        config, data, model, untrained, read_truth(data.cohort.root), mean_input(data)
    )


def _build_model(config: Config, data: Data) -> nn.Module:
    offered = {
        "tab_dim": data.tab_dim,
        "spec_len": data.datasets["test"].spec_len,
        "num_classes": data.num_classes,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return build_network(config.model, offered, data.cohort.task).eval()


def mean_input(data: Data) -> tuple[Tensor, Tensor]:
    """The mean of the training scans, without augmentation, [L], and of the covariates, [D]."""
    train = np.flatnonzero(data.trained)
    rows = np.sort(np.concatenate([data.cohort.scan_rows[i] for i in train]))
    total = sum(
        data.transforms(chunk).sum(axis=0, dtype=np.float64)
        for chunk in iterate_chunks(data.cohort.spectra, rows)
    )
    covariates = data.datasets["train"].tabular.mean(axis=0)
    return torch.from_numpy(np.asarray(total) / len(rows)).float(), torch.from_numpy(covariates)


def measure(subject: AuditContext) -> Figures:
    """Explain by integrated gradients, time it, and hold the outcome against the truth.

    The predicted class's log-odds - of two classes the difference of the logits - are explained
    against the mean training input. The true labels have no part but in the AUROC.

    One thread computes: the passes' matrices are small, so that a second one gains nothing and,
    where others use the machine too, waits more than it works.

    Args:
        subject: Of two classes.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _measure(subject)
    finally:
        torch.set_num_threads(threads)


def _measure(subject: AuditContext) -> Figures:
    loaders, axis = subject.data.loaders, np.asarray(subject.data.axis)
    test = list(loaders["test"])
    count = sum(len(batch.sample_id) for batch in test)
    began = time.perf_counter()
    with PeakMemory() as peak:
        # The test side comes first: its part is what the other figures are of.
        several = itertools.chain(test, loaders["val"], loaders["train"])
        found = explain(subject.model, several, max_samples=TIMED_SAMPLES, baseline=subject.mean)
    seconds = (time.perf_counter() - began) * TIMED_SAMPLES / len(found.sample_id)
    explained = first_of(found, count)
    windows = top_windows(explained, axis, TOP)
    learnt_nothing = explain(subject.untrained, test, baseline=subject.mean)

    highest = windows[:REPLACED]
    others = [
        around
        for around in windows_around(subject.truth.peaks, axis)
        if not any(_overlap(around, window) for window in highest)
    ]
    before = predicted_probabilities(subject.model, test)
    target = torch.cat([batch.target for batch in test])

    def drop(without: Sequence[Window]) -> float:
        after = predicted_probabilities(subject.model, test, without, subject.mean[0])
        return before.minus(after)

    drawn = draw_windows(others, REPLACED, RANDOM_DRAWS, subject.config.seed)
    return Figures(
        seed=subject.config.seed,
        auroc=float(roc_auc_score(target.numpy(), before.whole[:, 1].numpy())),
        found=planted_found(windows, subject.truth),
        drop=drop(highest),
        random_drop=float(np.mean([drop(some) for some in drawn])),
        gap=relative_gap(explained),
        untrained=planted_found(top_windows(learnt_nothing, axis, TOP), subject.truth),
        seconds=seconds,
        mebibytes=peak.mebibytes,
    )


def planted_found(windows: Sequence[Window], truth: SimulatedCohort) -> int:
    """How many of the planted peaks lie in one of the windows."""
    return sum(
        any(window.holds(peak.position) for window in windows) for peak in truth.disease_peaks
    )


def relative_gap(explained: Explained) -> float:
    """The 95th percentile of |gap| / |change|; NaN of a method that has no gap."""
    if explained.gap is None or explained.change is None:
        return float("nan")
    relative = explained.gap.double().abs() / explained.change.double().abs()
    return float(relative.quantile(QUANTILE))


def first_of(explained: Explained, samples: int) -> Explained:
    """The first so many samples' attributions."""
    parts = {
        name: getattr(explained, name)[:samples]
        for name in ("sample_id", "target", "scans", "tabular", "change", "gap", "intensities")
        if getattr(explained, name) is not None
    }
    return replace(explained, **parts)


def windows_around(places: Iterable[float], axis: np.ndarray) -> list[Window]:
    """A window as wide as the others around each place of the axis."""
    first, behind = window_edges(axis, WIDTH, "relative")
    points = [int(np.abs(axis - place).argmin()) for place in places]
    return [
        Window(
            low=float(axis[first[at]]),
            centre=float(axis[at]),
            high=float(axis[behind[at] - 1]),
            start=int(first[at]),
            stop=int(behind[at]),
            value=float("nan"),
        )
        for at in points
    ]


def draw_windows(
    windows: Sequence[Window], count: int, draws: int, seed: int
) -> Iterator[list[Window]]:
    """So many windows at a time, all different, drawn so many times."""
    generator = np.random.default_rng(seed)
    for _ in range(draws):
        yield [windows[i] for i in generator.choice(len(windows), count, replace=False)]


@dataclass(frozen=True)
class Probabilities:
    """Of each class, [N, C]."""

    whole: Tensor

    def minus(self, after: Probabilities) -> float:
        """By how much the class that is predicted here is less likely there, on average."""
        predicted = self.whole.argmax(dim=1, keepdim=True)
        return float((self.whole - after.whole).gather(1, predicted).mean())


@torch.no_grad()
def predicted_probabilities(
    model: nn.Module,
    batches: Iterable[Any],
    replaced: Sequence[Window] = (),
    mean: Tensor | None = None,
) -> Probabilities:
    """What a model says where windows of all scans are replaced by the mean spectrum.

    Args:
        model: Of classes.
        batches: Not changed.
        replaced: The windows.
        mean: The mean spectrum, [L], as the model is given spectra.
    """
    parts = []
    with eval_mode(model):
        for batch in batches:
            spectra = batch.spectra.clone()
            for window in replaced:
                assert mean is not None
                own = slice(window.start, window.stop)
                spectra[..., own] = mean[own]
            logits = model(spectra, batch.mask, batch.tabular)["logits"]
            parts.append(logits.double().softmax(dim=1))
    return Probabilities(torch.cat(parts))


def _overlap(one: Window, other: Window) -> bool:
    return one.start < other.stop and other.start < one.stop
