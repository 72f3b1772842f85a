"""Classification metrics, computed once an epoch from the tensors that the steps left behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from ignite.engine import Events
from torch import Tensor
from torchmetrics.functional import classification as tm

from engine.errors import UsageError, nearest
from engine.events import OrderedEngine, Phase
from engine.ranking import area_under_roc, average_precision

UNDEFINED = float("nan")
Metric = Callable[[Tensor, Tensor], float]


def _by_threshold(binary: Callable[..., Tensor], multiclass: Callable[..., Tensor]) -> Metric:
    def metric(probabilities: Tensor, target: Tensor) -> float:
        classes = probabilities.shape[1]
        predicted = probabilities.argmax(dim=1)
        # Checking its arguments takes torchmetrics ten times as long as counting.
        if classes == 2:
            return float(binary(predicted, target, validate_args=False))
        options = {"num_classes": classes, "average": "macro", "validate_args": False}
        return float(multiclass(predicted, target, **options))

    return metric


def _by_ranking(area: Callable[[Tensor, Tensor], float]) -> Metric:
    def metric(probabilities: Tensor, target: Tensor) -> float:
        classes = probabilities.shape[1]
        if not torch.bincount(target, minlength=classes).all():
            return UNDEFINED
        ranked = (1,) if classes == 2 else range(classes)
        return fmean(area(probabilities[:, c], target == c) for c in ranked)

    return metric


def accuracy(probabilities: Tensor, target: Tensor) -> float:
    """The share of samples [N] whose likeliest class (of [N, C]) is the true one."""
    return float((probabilities.argmax(dim=1) == target).double().mean())


# Each takes probabilities [N, C] and target [N]; for two classes class 1 is the positive one,
# for more the mean over the classes (one against the rest) is taken.
METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "precision": _by_threshold(tm.binary_precision, tm.multiclass_precision),
    "recall": _by_threshold(tm.binary_recall, tm.multiclass_recall),
    "f1": _by_threshold(tm.binary_f1_score, tm.multiclass_f1_score),
    "auroc": _by_ranking(area_under_roc),
    "auprc": _by_ranking(average_precision),
}
DEFAULT_METRICS = tuple(METRICS)


@dataclass(frozen=True)
class EpochOutputs:
    """What the steps of one epoch left behind, on the CPU.

    Attributes:
        logits: [N, C], in the loader's order.
        target: [N].
        sample_id: The N samples' names.
        losses: Loss name -> mean over the samples.
    """

    logits: Tensor
    target: Tensor
    sample_id: list[str]
    losses: Mapping[str, float]

    @property
    def probabilities(self) -> Tensor:
        """Softmax of the logits, [N, C], in double precision so that close scores stay apart."""
        # Along the first axis softmax works on whole rows: three times faster for few classes.
        return self.logits.double().T.contiguous().softmax(dim=0).T.contiguous()


class EpochMetrics:
    """Keeps each step's logits, targets and losses; computes the metrics at the epoch's end.

    Keeping a tensor costs well under a microsecond, where updating a metric object costs tens;
    and nothing is moved from the device, which would wait for it, before the epoch is over.

    Args:
        names: Keys of ``METRICS``.
        prefix: Put before each name (``train/``).

    Raises:
        UsageError: A name is not in ``METRICS``.

    Attributes:
        outputs: The last whole epoch's :class:`EpochOutputs`, None before the first.
    """

    phase = Phase.MEASURE

    def __init__(self, names: Sequence[str] = DEFAULT_METRICS, prefix: str = "") -> None:
        for name in names:
            if name not in METRICS:
                raise UsageError(f"no metric is called '{name}'{nearest(name, METRICS)}")
        self.names = tuple(names)
        self.prefix = prefix
        self.outputs: EpochOutputs | None = None
        self._device = torch.device("cpu")
        self._logits: list[Tensor] = []
        self._target: list[Tensor] = []
        self._sample_id: list[str] = []
        self._losses: list[Mapping[str, Tensor]] = []

    def metric_names(self, loss_terms: Sequence[str] = ()) -> list[str]:
        """All names that will stand in ``state.metrics``, given the loss's named terms."""
        losses = ["loss", *(term for term in loss_terms if term != "total_loss")]
        return [self.prefix + name for name in (*losses, *self.names)]

    def attach(self, engine: OrderedEngine) -> None:
        """Listen to a trainer or an evaluator."""
        self._device = getattr(engine, "device", self._device)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.compute)
        if hasattr(engine, "keep"):
            engine.keep("epoch_metrics", self)

    def __call__(self, engine: OrderedEngine) -> None:
        """Keep one step's tensors."""
        state = engine.state
        self._logits.append(state.outputs["logits"].detach())
        self._target.append(state.batch.target)
        self._sample_id.extend(state.batch.sample_id)
        self._losses.append(state.losses)

    def compute(self, engine: OrderedEngine) -> None:
        """Turn what was kept into ``engine.state.metrics`` entries and start afresh."""
        sizes = torch.tensor([len(target) for target in self._target], dtype=torch.float64)
        losses = {
            name: float(torch.stack([step[name] for step in self._losses]).double().cpu() @ sizes)
            / float(sizes.sum())
            for name in self._losses[0]
        }
        self.outputs = EpochOutputs(
            torch.cat(self._logits).float().cpu(),
            torch.cat(self._target).cpu(),
            list(self._sample_id),
            losses,
        )
        self.reset()
        probabilities, target = self.outputs.probabilities, self.outputs.target
        values = {"loss": losses["total_loss"]}
        values.update({name: value for name, value in losses.items() if name != "total_loss"})
        # Diverged weights give NaN scores, of which no ranking or decision can be made.
        whole = bool(torch.isfinite(probabilities).all())
        for name in self.names:
            values[name] = METRICS[name](probabilities, target) if whole else UNDEFINED
        for name, value in values.items():
            engine.state.metrics[self.prefix + name] = value

    def reset(self) -> None:
        """Forget the steps kept so far."""
        self._logits, self._target, self._sample_id, self._losses = [], [], [], []

    def state_dict(self) -> dict[str, Any]:
        """The steps kept so far in an unfinished epoch."""
        return {
            "logits": list(self._logits),
            "target": list(self._target),
            "sample_id": list(self._sample_id),
            "losses": [dict(step) for step in self._losses],
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue an unfinished epoch, on the device that the next steps' tensors are on."""
        self._logits = [logits.to(self._device) for logits in state_dict["logits"]]
        self._target = [target.to(self._device) for target in state_dict["target"]]
        self._sample_id = list(state_dict["sample_id"])
        self._losses = [
            {name: loss.to(self._device) for name, loss in step.items()}
            for step in state_dict["losses"]
        ]
