from __future__ import annotations

import io
import warnings

import pytest
import torch
from ignite.engine import Events

from engine import EpochMetrics, Evaluator, Phase, Trainer, TrainEvents, UsageError
from engine.losses import CrossEntropy
from engine.optim import build_optimizer
from handlers import mixed_precision
from handlers.accumulation import Accumulation
from handlers.ema import EMA
from handlers.gradient_clipping import GradientClipping
from handlers.mixed_precision import SLOW_BF16, MixedPrecision, tf32_products
from tests.tiny_problem import TinyLoader, TinyModel

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


@pytest.fixture(autouse=True)
def bf16_instructions(monkeypatch):
    """What the processor is said to have; what it has does not change what is tested here."""

    def say(has):
        monkeypatch.setattr(mixed_precision, "has_bf16_instructions", lambda: has)

    say(True)
    return say


def notices(trainer):
    lines = []
    trainer.add_event_handler(
        TrainEvents.LOG_EVENT, lambda: lines.append(trainer.state.notice.get("message"))
    )
    return lines


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


def scaled_on_the_cpu(trainer, **settings):
    """What fp16 does to the gradients, in fp32 on the CPU: torch's scaler works there too."""
    precision = MixedPrecision("fp32", **settings)
    precision.attach(trainer)
    precision.scaler = torch.amp.GradScaler(
        "cpu", init_scale=precision.init_scale, growth_interval=precision.growth_interval
    )
    return precision


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_fp32_trains_as_without_it(make_trainer, loader):
    trainer, plain = make_trainer(), make_trainer()
    MixedPrecision("fp32").attach(trainer)
    for each in (trainer, plain):
        torch.manual_seed(1)
        each.fit(loader, 2)
    assert torch.equal(weights(trainer), weights(plain))


def test_bf16_computes_in_bf16_and_keeps_the_weights_in_fp32(make_trainer, loader):
    trainer, seen = make_trainer(), []
    MixedPrecision("bf16").attach(trainer)
    trainer.add_event_handler(
        TrainEvents.FORWARD_COMPLETED, lambda: seen.append(trainer.state.outputs["logits"].dtype)
    )
    trainer.fit(loader, 1)
    first = trainer.state.metrics["train/loss"]
    trainer.fit(loader, 20)
    assert set(seen) == {torch.bfloat16}
    assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}
    assert trainer.state.metrics["train/loss"] < 0.7 * first


def test_an_evaluator_computes_in_the_same_precision(make_trainer, make_evaluator, loader):
    trainer = make_trainer()
    evaluator, seen = make_evaluator(trainer), []
    precision = MixedPrecision("bf16")
    precision.attach(trainer)
    precision.attach(evaluator)
    evaluator.add_event_handler(
        Events.ITERATION_COMPLETED, lambda: seen.append(evaluator.state.outputs["logits"].dtype)
    )
    evaluator.evaluate(loader)
    assert set(seen) == {torch.bfloat16}


def test_fp16_on_a_cpu_is_replaced_by_bf16_and_announced_once(make_trainer, make_evaluator, loader):
    trainer = make_trainer()
    lines = notices(trainer)
    precision = MixedPrecision("fp16")
    precision.attach(trainer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        precision.attach(make_evaluator(trainer))
    dtypes = set()
    trainer.add_event_handler(
        TrainEvents.FORWARD_COMPLETED, lambda: dtypes.add(trainer.state.outputs["logits"].dtype)
    )
    trainer.fit(loader, 1)
    trainer.fit(loader, 2)
    assert lines == ["fp16 needs a GPU: computing in bf16 on the cpu"]
    assert dtypes == {torch.bfloat16}
    assert precision.precision == "bf16"


def test_tf32_on_a_cpu_is_replaced_by_fp32_and_announced_once(make_trainer, loader):
    trainer, plain = make_trainer(), make_trainer()
    lines, precision = notices(trainer), MixedPrecision("tf32")
    precision.attach(trainer)
    for each in (trainer, plain):
        torch.manual_seed(1)
        each.fit(loader, 1)
        each.fit(loader, 2)
    assert lines == ["tf32 needs a GPU: computing in fp32 on the cpu"]
    assert torch.equal(weights(trainer), weights(plain))


def test_tf32_is_for_the_step_alone_forward_and_backward(make_trainer, loader):
    trainer, seen = make_trainer(), []
    precision = MixedPrecision("tf32")
    precision.attach(trainer)
    precision.precision = "tf32"  # as on a GPU

    def look(*_):
        seen.append(torch.get_float32_matmul_precision())

    trainer.model.head.register_forward_hook(look)
    trainer.model.head.register_full_backward_hook(look)
    trainer.fit(loader, 1)
    assert set(seen) == {"high"}
    assert len(seen) == 2 * len(loader)
    assert torch.get_float32_matmul_precision() == "highest"


@needs_gpu
def test_tf32_multiplies_with_fewer_bits_on_a_gpu():
    precision = MixedPrecision("tf32")
    trainer = Trainer(TinyModel(), build_optimizer(TinyModel(), lr=0.01), CrossEntropy(), "cuda")
    precision.attach(trainer)
    left, right = torch.rand(512, 512, device="cuda"), torch.rand(512, 512, device="cuda")
    whole = left @ right
    with precision.autocast():
        rounded = left @ right
    assert rounded.dtype == torch.float32
    assert not torch.equal(whole, rounded)
    torch.testing.assert_close(whole, rounded, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    ("precision", "instructions", "told"),
    [
        ("fp16", (True, True), [["fp16 needs a GPU: computing in bf16 on the cpu"], []]),
        ("bf16", (True, False, False), [[], [SLOW_BF16], []]),
    ],
)
def test_a_continued_run_says_what_is_new(
    make_trainer, loader, bf16_instructions, precision, instructions, told
):
    said, states = [], None
    for epochs, has in enumerate(instructions, start=1):
        bf16_instructions(has)
        trainer = make_trainer()
        MixedPrecision(precision).attach(trainer)
        said.append(notices(trainer))
        if states is not None:
            trainer.restore(states)
        trainer.fit(loader, epochs)
        states = through_a_file(trainer.capture())
    assert said == told


def test_a_run_that_moves_from_a_gpu_to_a_cpu_says_it(make_trainer, loader):
    trainer = make_trainer()
    precision = MixedPrecision("fp16")
    precision.attach(trainer)
    lines = notices(trainer)
    precision.load_state_dict({"precision": "fp16", "scaler": {"scale": 8.0}})
    trainer.fit(loader, 1)
    assert len(lines) == 1


def test_an_evaluator_alone_warns_that_fp16_needs_a_gpu(make_trainer, make_evaluator):
    with pytest.warns(UserWarning, match="fp16 needs a GPU"):
        MixedPrecision("fp16").attach(make_evaluator(make_trainer()))


@pytest.mark.parametrize(
    ("precision", "has", "told"),
    [
        ("bf16", False, [SLOW_BF16]),
        ("fp16", False, ["fp16 needs a GPU: computing in bf16 on the cpu", SLOW_BF16]),
        ("bf16", True, []),
        ("bf16", None, []),
        ("fp32", False, []),
        ("tf32", False, ["tf32 needs a GPU: computing in fp32 on the cpu"]),
    ],
)
def test_a_processor_that_cannot_multiply_bf16_is_told_of_once(
    make_trainer, make_evaluator, loader, bf16_instructions, precision, has, told
):
    bf16_instructions(has)
    trainer = make_trainer()
    lines, handler = notices(trainer), MixedPrecision(precision)
    handler.attach(trainer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        handler.attach(make_evaluator(trainer))
    trainer.fit(loader, 1)
    trainer.fit(loader, 2)
    assert lines == told


def test_an_evaluator_alone_warns_of_slow_bf16(make_trainer, make_evaluator, bf16_instructions):
    bf16_instructions(False)
    with pytest.warns(UserWarning, match="no instructions for bfloat16"):
        MixedPrecision("bf16").attach(make_evaluator(make_trainer()))


def test_scaling_changes_neither_gradients_nor_weights(make_trainer, loader):
    trainer, plain = make_trainer(), make_trainer()
    scaled_on_the_cpu(trainer, init_scale=1024.0)
    seen: dict[Trainer, list[torch.Tensor]] = {trainer: [], plain: []}

    def look(each):
        seen[each].append(each.model.head.bias.grad.clone())

    for each in seen:
        each.add_event_handler(TrainEvents.GRADIENTS_READY, look, phase=Phase.GUARD)
        torch.manual_seed(1)
        each.fit(loader, 2)
    for mine, other in zip(seen[trainer], seen[plain], strict=True):
        torch.testing.assert_close(mine, other)
    torch.testing.assert_close(weights(trainer), weights(plain))


def test_an_overflowing_step_is_left_out_and_the_scale_shrinks(make_trainer, loader):
    trainer = make_trainer()
    precision = scaled_on_the_cpu(trainer, init_scale=1024.0)
    before = weights(trainer)

    @trainer.on(TrainEvents.LOSS_COMPLETED)
    def overflow(trainer):
        trainer.state.losses["total_loss"] = trainer.state.losses["total_loss"] * 1e38

    trainer.fit(TinyLoader(samples=4), 1)
    assert torch.equal(weights(trainer), before)
    assert precision.scaler.get_scale() == 512.0


def test_the_scale_grows_after_as_many_good_steps_as_asked(make_trainer, loader):
    trainer = make_trainer()
    precision = scaled_on_the_cpu(trainer, init_scale=16.0, growth_interval=3)
    trainer.fit(loader, 1)
    assert precision.scaler.get_scale() == 32.0


def test_a_vetoed_step_leaves_the_scaler_ready_for_the_next(make_trainer, loader):
    trainer = make_trainer()
    precision = scaled_on_the_cpu(trainer, init_scale=16.0, growth_interval=1)
    before = weights(trainer)

    @trainer.on(TrainEvents.GRADIENTS_READY(once=1))
    def veto(trainer):
        trainer.state.skip_step = True

    trainer.fit(TinyLoader(samples=4), 1)
    assert torch.equal(weights(trainer), before)
    assert precision.scaler.get_scale() == 32.0
    trainer.fit(TinyLoader(samples=4), 2)
    assert trainer.state.optimizer_step == 1
    assert not torch.equal(weights(trainer), before)


def test_the_scale_and_its_history_are_saved(make_trainer, loader):
    trainer = make_trainer()
    precision = scaled_on_the_cpu(trainer, init_scale=16.0, growth_interval=4)
    trainer.fit(loader, 1)  # five steps: grown once, and one step towards the next
    state = through_a_file(precision.state_dict())
    other = make_trainer()
    restored = scaled_on_the_cpu(other, init_scale=16.0, growth_interval=4)
    restored.load_state_dict(state)
    assert restored.state_dict() == precision.state_dict()
    assert restored.scaler.get_scale() == 32.0


def test_the_state_of_a_run_in_another_precision_is_no_obstacle(make_trainer):
    plain = MixedPrecision("fp32")
    plain.attach(make_trainer())
    scaled = scaled_on_the_cpu(make_trainer(), init_scale=16.0)
    scaled.load_state_dict(plain.state_dict())
    assert scaled.scaler.get_scale() == 16.0
    plain.load_state_dict(scaled.state_dict())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "bf-16"}, "there is no 'bf-16'; did you mean 'bf16'"),
        (
            {"precision": "16-mixed"},
            r"no '16-mixed' \(choices: fp32, tf32, bf16, fp16\)",
        ),
        ({"precision": 16}, r"there is no 16.* \(choices: fp32, tf32, bf16, fp16\)"),
        (
            {"precision": "fp16", "init_scale": 0},
            "a number above 0 was expected, not 0",
        ),
        ({"precision": "fp16", "init_scale": "big"}, "init_scale: a number above 0"),
        ({"precision": "fp16", "growth_interval": 0}, "growth_interval: a whole number"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        MixedPrecision(**settings)


def test_engines_on_two_kinds_of_devices_are_refused(make_trainer):
    precision, trainer = MixedPrecision("bf16"), make_trainer()
    precision.attach(trainer)
    trainer.device = torch.device("meta")
    with pytest.raises(UsageError, match="give each its own"):
        precision.attach(trainer)


def trainer_on_the_gpu(precision, **settings):
    torch.manual_seed(0)
    model = TinyModel().cuda()
    trainer = Trainer(model, build_optimizer(model, lr=0.01), CrossEntropy(), "cuda")
    EpochMetrics(prefix="train/").attach(trainer)
    handler = MixedPrecision(precision, **settings)
    handler.attach(trainer)
    return trainer, handler


@needs_gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_training_on_a_gpu_learns_and_no_step_waits(precision):
    trainer, _ = trainer_on_the_gpu(precision)
    ema = EMA(decay=0.9)
    trainer.attach(Accumulation(2), GradientClipping(1.0), ema)
    loader = TinyLoader()
    loader.batches = [batch.to("cuda") for batch in loader.batches]
    trainer.fit(loader, 1)  # the first steps set the optimizer and the scale up
    first = trainer.state.metrics["train/loss"]
    trainer.add_event_handler(
        Events.ITERATION_STARTED, lambda: torch.cuda.set_sync_debug_mode("error")
    )
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED,
        lambda: torch.cuda.set_sync_debug_mode("default"),
        phase=Phase.REPORT,
    )
    try:
        trainer.fit(loader, 40)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert trainer.state.metrics["train/loss"] < 0.7 * first
    live = weights(trainer)
    with ema.averaged_weights():
        assert not torch.equal(weights(trainer), live)
    assert torch.equal(weights(trainer), live)


@needs_gpu
def test_fp16_on_a_gpu_recovers_from_too_large_a_scale():
    trainer, handler = trainer_on_the_gpu("fp16", init_scale=2.0**40)
    dtypes = set()
    trainer.add_event_handler(
        TrainEvents.FORWARD_COMPLETED, lambda: dtypes.add(trainer.state.outputs["logits"].dtype)
    )
    trainer.fit(TinyLoader(), 20)
    assert dtypes == {torch.float16}
    assert 1 <= handler.scaler.get_scale() < 2.0**40
    assert bool(torch.isfinite(weights(trainer)).all())


@needs_gpu
def test_fp16_on_a_gpu_continues_with_the_saved_scale():
    whole, handler = trainer_on_the_gpu("fp16", init_scale=2.0**40)
    whole.fit(TinyLoader(), 6)
    cut, _ = trainer_on_the_gpu("fp16", init_scale=2.0**40)
    cut.fit(TinyLoader(), 3)
    states = through_a_file(cut.capture())
    continued, restored = trainer_on_the_gpu("fp16")
    continued.restore(states)
    continued.fit(TinyLoader(), 6)
    assert restored.scaler.get_scale() == handler.scaler.get_scale()
    assert torch.equal(weights(continued), weights(whole))


@needs_gpu
def test_an_evaluator_on_a_gpu_computes_in_fp16():
    trainer, handler = trainer_on_the_gpu("fp16")
    evaluator = Evaluator(trainer.model, CrossEntropy(), EpochMetrics(), "cuda")
    handler.attach(evaluator)
    evaluator.evaluate(TinyLoader())
    assert evaluator.state.outputs["logits"].dtype == torch.float16


def test_tf32_holds_within_its_context_only():
    with tf32_products():
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == "highest"
