"""A training step asks the device for no value, whatever is attached: a GPU would be waited for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ignite.engine import Events

from engine import Phase, TrainEvents
from experiments.config import Config
from experiments.runs import Experiment
from models.tft_models import TFTMultimodal
from tests.no_waiting import refuse_waiting_in_steps

pytestmark = pytest.mark.slow

TERMS = {"main_loss": "uncertainty", "aux_spec_loss": {"start": 0, "end": 1, "epochs": 2}}

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


def with_all_that_works_in_a_step(make_config: Any, precision: str, device: str) -> Config:
    return make_config(  # type: ignore[no-any-return]
        **{
            "trainer.precision": precision,
            "trainer.device": device,
            "trainer.accumulate_steps": 2,
            "trainer.max_epochs": 3,
            "ema.decay": 0.9,
            "log.every_steps": 1,
            "lr_scheduler": {"name": "cosine", "warmup_steps": 2},
            "handlers": [
                # On a CPU it judges each step as it comes, unless told otherwise.
                {"name": "nan_guard", "params": {"check_every": 100}},
                {"name": "gradient_norm"},
                {"name": "throughput"},
                {"name": "loss_weights", "params": {"weights": TERMS}},
            ],
        }
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_no_step_of_a_whole_run_asks_for_a_value(make_config, precision):
    experiment = Experiment(with_all_that_works_in_a_step(make_config, precision, "cpu"))
    experiment.setup()
    assert isinstance(experiment.trainer.model, TFTMultimodal)
    assert experiment.trainer.model.spectra_encoder.packed
    refuse_waiting_in_steps(experiment.trainer)
    experiment.train()
    assert experiment.trainer.state.epoch == 3


def test_a_handler_that_asks_for_a_value_is_seen(make_config):
    experiment = Experiment(with_all_that_works_in_a_step(make_config, "fp32", "cpu"))
    experiment.setup()
    experiment.trainer.add_event_handler(
        TrainEvents.GRADIENTS_READY, lambda trainer: float(trainer.state.losses["total_loss"])
    )
    refuse_waiting_in_steps(experiment.trainer)
    with pytest.raises(AssertionError, match="waits for the device"):
        experiment.train()


@needs_gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_no_step_of_a_whole_run_on_a_gpu_waits_for_it(make_config, precision):
    experiment = Experiment(with_all_that_works_in_a_step(make_config, precision, "cuda"))
    experiment.setup()
    trainer, watched = experiment.trainer, []

    def watch() -> None:
        # The first epoch sets up what torch makes once: the optimizer's memory, kernels' plans.
        if trainer.state.epoch > 1:
            torch.cuda.set_sync_debug_mode("error")
            watched.append(trainer.state.iteration)

    trainer.add_event_handler(Events.ITERATION_STARTED, watch, phase=Phase.PREPARE)
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED,
        lambda: torch.cuda.set_sync_debug_mode("default"),
        phase=Phase.REPORT,
    )
    try:
        experiment.train()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(watched) == 2 * trainer.state.epoch_length
    assert torch.isfinite(torch.tensor(trainer.state.metrics["train/loss"]))
