"""What a model gives for each sample of an evaluation, as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from ignite.engine import Events

from engine.evaluator import Evaluator
from engine.events import Phase
from engine.explain import Embeddings
from engine.metrics import EpochOutputs, attention_weights


class CollectedSamples:
    """Keeps embeddings and attention weights of one evaluation, on the CPU.

    Example::

        collected = CollectedSamples()
        collected.attach(evaluator)
        evaluator.evaluate(loader)
        collected.arrays(evaluator.metrics.outputs)["embeddings"]
    """

    phase = Phase.MEASURE

    def __init__(self) -> None:
        self._embeddings = Embeddings()
        self._attention: list[dict[str, np.ndarray]] = []

    def attach(self, evaluator: Evaluator) -> None:
        """Listen to the steps."""
        self._embeddings.attach(evaluator)
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, evaluator: Evaluator) -> None:
        """Keep the attention weights of one step, sample by sample: their scans may differ."""
        state = evaluator.state
        found = {n: w.float().cpu().numpy() for n, w in attention_weights(state.outputs).items()}
        self._attention += [
            {name: weights[row] for name, weights in found.items()}
            for row in range(len(state.batch.sample_id))
        ]

    def arrays(self, outputs: EpochOutputs) -> dict[str, Any]:
        """The N samples in the loader's order.

        Args:
            outputs: Of the same evaluation.

        Returns:
            ``sample_id``, N names; ``labels`` (class numbers [N], labels 0 or 1 [N, T], or values
            [N, T]), ``predictions`` likewise and, but of a regression, ``probabilities`` [N, C];
            ``embeddings`` [N, E] (:class:`engine.explain.Embeddings`); ``attention_weights``,
            name -> N arrays, each without the batch's dimension and with the scans that its batch
            was padded to (:func:`engine.metrics.attention_weights`).
        """
        names = dict.fromkeys(name for sample in self._attention for name in sample)
        arrays: dict[str, Any] = {
            "sample_id": list(outputs.sample_id),
            "labels": outputs.target.numpy(),
            "predictions": outputs.predictions.numpy(),
            "embeddings": self._embeddings.vectors.numpy(),
            "attention_weights": {n: [sample.get(n) for sample in self._attention] for n in names},
        }
        if outputs.task != "regression":
            arrays["probabilities"] = outputs.probabilities.numpy()
        return arrays
