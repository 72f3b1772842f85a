"""What processes do that train one model together, and what one does that trains alone.

Each scenario is a function of the number of processes whose batches are taken: :func:`work` runs
all of them among several processes, the tests run them alone with joint batches.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from torch import Tensor, nn

from engine import EpochMetrics, Evaluator, Phase, Trainer, TrainEvents, UsageError
from engine.distributed import gather, rank, world_size
from engine.losses import CrossEntropy, OutputNorm, Term, WeightedLoss
from engine.optim import build_optimizer
from handlers.accumulation import Accumulation
from handlers.checkpoint import Checkpoint
from handlers.compile import Compile
from handlers.distributed_training import DistributedTraining
from handlers.early_stopping import EarlyStopping
from handlers.ema import EMA
from handlers.freeze import Freeze
from handlers.gradient_clipping import GradientClipping
from handlers.gradient_norm import GradientNorm
from handlers.loss_weights import LossWeights
from handlers.lr_schedule import LRSchedule
from handlers.nan_guard import NaNGuard
from handlers.swa import SWA
from handlers.throughput import Throughput
from handlers.validation import Validation
from tests.shared_problem import SharedLoader, build_model, weights_of
from tests.tiny_problem import TinyModel

EPOCHS = 3


class BadSample(nn.Module):
    """A loss that is NaN where one sample is in the batch, with gradients that are not."""

    def __init__(self, bad: str) -> None:
        super().__init__()
        self.bad, self.plain = bad, CrossEntropy()
        self.trainer: Any = None

    def forward(self, outputs: dict[str, Tensor], target: Tensor) -> dict[str, Tensor]:
        total = self.plain(outputs, target)["total_loss"]
        there = self.trainer is not None and self.bad in self.trainer.state.batch.sample_id
        return {"total_loss": total + (float("nan") if there else 0.0)}


class TwoTerms(nn.Module):
    """A loss with terms that can be weighted."""

    def forward(self, outputs: dict[str, Tensor], target: Tensor) -> dict[str, Tensor]:
        main = nn.functional.cross_entropy(outputs["logits"], target)
        norm = outputs["embedding"].pow(2).mean()
        return {"total_loss": main + norm, "main_loss": main, "norm_loss": norm}


def build(
    *handlers: Any,
    model: nn.Module | None = None,
    loss: Any = None,
    run_dir: Path | None = None,
    **parallel: Any,
) -> Trainer:
    """A trainer that measures itself, for one process or several."""
    model = build_model() if model is None else model
    optimizer = build_optimizer(model, "adamw", lr=0.01)
    trainer = Trainer(model, optimizer, loss or CrossEntropy(), run_dir=run_dir)
    measured = EpochMetrics(prefix="train/")
    trainer.provide_metrics(*measured.metric_names())
    trainer.attach(DistributedTraining(**parallel))
    measured.attach(trainer)
    trainer.attach(*handlers)
    return trainer


def fit(trainer: Trainer, loader: SharedLoader, epochs: int = EPOCHS) -> dict[str, Any]:
    """Train, and say what came of it."""
    trainer.fit(loader, epochs)
    metrics = {k: v for k, v in trainer.state.metrics.items() if not k.startswith("time/")}
    return {
        "weights": weights_of(trainer.model),
        "metrics": metrics,
        "steps": trainer.state.optimizer_step,
    }


# -- the same with joint batches ------------------------------------------------------------


def batches_of_different_sizes(joint: int | None) -> dict[str, Any]:
    return fit(build(), SharedLoader(10, 4, joint))


def accumulated_windows(joint: int | None) -> dict[str, Any]:
    return fit(build(Accumulation(steps=2)), SharedLoader(18, 4, joint))


def weighted_terms() -> WeightedLoss:
    """Terms that are divided by sums of class weights, and one that is not."""
    return WeightedLoss(
        {
            "main_loss": CrossEntropy(class_weights=[1.0, 9.0]),
            "norm_loss": Term(OutputNorm(), weight=0.1),
        }
    )


def class_weights(joint: int | None) -> dict[str, Any]:
    return fit(build(loss=weighted_terms()), SharedLoader(10, 4, joint))


def class_weights_in_accumulated_steps(joint: int | None) -> dict[str, Any]:
    trainer = build(Accumulation(steps=2), loss=weighted_terms())
    return fit(trainer, SharedLoader(18, 4, joint))


def a_static_graph_with_accumulation(joint: int | None) -> dict[str, Any]:
    trainer = build(Accumulation(steps=2), static_graph=True)
    return fit(trainer, SharedLoader(18, 4, joint))


def gradients_that_are_sent_together(joint: int | None) -> dict[str, Any]:
    handlers = (Accumulation(steps=2), Freeze(["body"], until_epoch=2))
    trainer = build(*handlers, model=build_model(idle=True), overlap=False)
    return fit(trainer, SharedLoader(18, 4, joint))


def a_compiled_model(joint: int | None) -> dict[str, Any]:
    compiled = Compile(backend="aot_eager")
    return fit(build(compiled, overlap=False), SharedLoader(10, 4, joint))


def a_compiled_model_that_sends_as_it_goes(joint: int | None) -> dict[str, Any]:
    return fit(build(Compile(backend="aot_eager")), SharedLoader(10, 4, joint))


def a_layer_without_a_part_in_the_loss(joint: int | None) -> dict[str, Any]:
    return fit(build(model=build_model(idle=True)), SharedLoader(10, 4, joint))


def such_a_layer_in_a_static_graph(joint: int | None) -> dict[str, Any]:
    trainer = build(model=build_model(idle=True), static_graph=True)
    return fit(trainer, SharedLoader(10, 4, joint))


def a_part_that_is_frozen_for_an_epoch(joint: int | None) -> dict[str, Any]:
    return fit(build(Freeze(["body"], until_epoch=2)), SharedLoader(10, 4, joint))


def a_part_that_is_frozen_then_released_step_by_step(joint: int | None) -> dict[str, Any]:
    freeze = Freeze(unfreeze={"head": 2, "blocks.0": 3})
    return fit(build(freeze, static_graph=True), SharedLoader(10, 4, joint))


def all_that_follows_gradients_and_weights(joint: int | None) -> dict[str, Any]:
    ema = EMA(decay=0.5)
    trainer = build(
        GradientClipping(max_norm=0.1),
        GradientNorm(),
        ema,
        LossWeights({"main_loss": 1.0, "norm_loss": "uncertainty"}),
        LRSchedule("plateau", monitor="train/loss", mode="min", patience=0, threshold=9.0),
        loss=TwoTerms(),
    )
    found = fit(trainer, SharedLoader(10, 4, joint))
    return {**found, "average": ema.state_dict()["average"]}


def a_step_that_is_bad_in_one_process(joint: int | None) -> dict[str, Any]:
    loss = BadSample("s7")
    loss.trainer = trainer = build(NaNGuard(), loss=loss)
    found = fit(trainer, SharedLoader(10, 4, joint))
    del found["metrics"]["train/loss"]
    return found


def a_step_that_the_optimizer_leaves_out(joint: int | None) -> dict[str, Any]:
    loss = BadSample("s7")
    loss.trainer = trainer = build(NaNGuard(check_every=2), loss=loss)
    found = fit(trainer, SharedLoader(10, 4, joint))
    del found["metrics"]["train/loss"]
    return found


def decisions(joint: int | None, run_dir: Path | None = None) -> dict[str, Any]:
    model = build_model()
    evaluator = Evaluator(model, CrossEntropy(), EpochMetrics())
    seen = SharedLoader(7, 2, shuffle=False, even=False)
    checkpoint = Checkpoint(monitor="val/loss", mode="min", save_top_k=2)
    stopping = EarlyStopping("val/loss", "min", patience=2, min_delta=0.05)
    handlers = [Validation(evaluator, seen), stopping, Throughput()]
    if run_dir is not None:
        handlers.append(checkpoint)
    trainer = build(*handlers, model=model, run_dir=run_dir)
    found = fit(trainer, SharedLoader(10, 4, joint), epochs=12)
    return {**found, "epoch": trainer.state.epoch, "stopping": stopping.state_dict()}


SAME: dict[str, Callable[[int | None], dict[str, Any]]] = {
    scenario.__name__: scenario
    for scenario in (
        batches_of_different_sizes,
        accumulated_windows,
        class_weights,
        class_weights_in_accumulated_steps,
        a_static_graph_with_accumulation,
        gradients_that_are_sent_together,
        a_compiled_model,
        a_compiled_model_that_sends_as_it_goes,
        a_layer_without_a_part_in_the_loss,
        such_a_layer_in_a_static_graph,
        a_part_that_is_frozen_for_an_epoch,
        a_part_that_is_frozen_then_released_step_by_step,
        all_that_follows_gradients_and_weights,
        a_step_that_is_bad_in_one_process,
        a_step_that_the_optimizer_leaves_out,
        decisions,
    )
}


# -- what only several processes can do -----------------------------------------------------


def beginnings() -> dict[str, Any]:
    """Processes that were seeded alike, but whose models begin differently."""
    trainer = build(model=build_model(seed=rank()))
    torch.manual_seed(7)
    found: dict[str, Any] = {}

    @trainer.on(Events.EPOCH_STARTED(once=1), phase=Phase.REPORT)
    def look(trainer: Trainer) -> None:
        found["weights"] = weights_of(trainer.model)
        found["drawn"] = torch.rand(3)

    trainer.fit(SharedLoader(10, 4), 1)
    return found


def norms_with_statistics() -> dict[str, Any]:
    """A model whose norms see their own process's part of a batch."""
    torch.manual_seed(0)
    model = TinyModel().double()
    swa = SWA(start_epoch=1)
    evaluator = Evaluator(model, CrossEntropy(), EpochMetrics())
    seen = SharedLoader(7, 2, shuffle=False, even=False)
    trainer = build(swa, Validation(evaluator, seen, weights=swa.averaged_weights), model=model)
    return {**fit(trainer, SharedLoader(10, 4)), "statistics": swa.state_dict()["statistics"]}


def messages_in_a_window() -> list[bool]:
    """Whether the processes hold the same gradients after each micro-batch of two windows."""
    trainer = build(Accumulation(steps=3))
    alike = []

    @trainer.on(TrainEvents.BACKWARD_COMPLETED, phase=Phase.REPORT)
    def look(trainer: Trainer) -> None:
        mine, other = gather(trainer.model.get_parameter("head.weight").grad)[:2]
        assert mine is not None
        assert other is not None
        alike.append(torch.equal(mine, other))

    trainer.fit(SharedLoader(18, 3), 2)
    return alike


def refused(start: Callable[[], Any]) -> str:
    """The line in which something is refused."""
    try:
        start()
    except UsageError as error:
        return str(error)
    return "nothing was refused"


def different_numbers_of_batches() -> str:
    return refused(lambda: build().fit(SharedLoader(10 + 8 * rank(), 4, joint=1), 1))


def changing(later: Callable[[Any, Tensor], Tensor], **settings: Any) -> nn.Module:
    """A model whose logits, after its first two calls, are what ``later`` makes of its body's."""

    class Changing(type(build_model())):  # type: ignore[misc]
        calls = 0

        def forward(self, *inputs: Tensor) -> dict[str, Tensor]:
            self.calls += 1
            found = super().forward(*inputs)
            if self.calls < 3:
                return found
            return {"logits": later(self, self.body(inputs[0].mean(dim=1)))}

    return Changing(**settings)


def a_layer_that_is_used_now_and_then() -> str:
    model = changing(lambda model, embedding: embedding[:, :2])
    return refused(lambda: build(model=model).fit(SharedLoader(10, 4), EPOCHS))


def a_layer_that_comes_in_later() -> str:
    model = changing(lambda model, embedding: model.head(model.idle(embedding)), idle=True)
    trainer = build(model=model, overlap=False)
    return refused(lambda: trainer.fit(SharedLoader(10, 4), EPOCHS))


def files_written(folder: Path) -> dict[str, Any]:
    """A run with checkpoints, for which each process has a folder of its own."""
    run_dir = folder / f"run-{rank()}"
    run_dir.mkdir()
    decisions(None, run_dir)
    return {"files": sorted(path.name for path in run_dir.rglob("*.pt"))}


def a_folder_that_cannot_be_written(folder: Path) -> str:
    """The first process's run folder is a file."""
    run_dir = folder / f"no-run-{rank()}"
    if rank() == 0:
        run_dir.write_text("in the way")
    return refused(lambda: decisions(None, run_dir))


def work(folder: Path) -> dict[str, Any]:
    """All scenarios, together."""
    return {
        "world_size": world_size(),
        **{name: scenario(None) for name, scenario in SAME.items()},
        "beginnings": beginnings(),
        "norms_with_statistics": norms_with_statistics(),
        "messages_in_a_window": messages_in_a_window(),
        "different_numbers_of_batches": different_numbers_of_batches(),
        "files_written": files_written(folder),
        "a_folder_that_cannot_be_written": a_folder_that_cannot_be_written(folder),
        "a_layer_that_is_used_now_and_then": a_layer_that_is_used_now_and_then(),
        "a_layer_that_comes_in_later": a_layer_that_comes_in_later(),
    }
