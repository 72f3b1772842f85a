from __future__ import annotations

import io

import pytest
import torch
from ignite.engine import Events

from engine import TrainEvents, UsageError
from tests.tiny_problem import TinyLoader


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


def through_a_file(states):
    file = io.BytesIO()
    torch.save(states, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_events_fire_in_the_order_of_the_loop(make_trainer, loader):
    trainer, seen = make_trainer(), []
    for event in (*TrainEvents, Events.ITERATION_STARTED, Events.ITERATION_COMPLETED):
        trainer.add_event_handler(event, lambda _, e=event: seen.append(e.name))
    trainer.fit(TinyLoader(samples=4), 1)
    assert seen == [
        "ITERATION_STARTED",
        "BATCH_READY",
        "FORWARD_COMPLETED",
        "LOSS_COMPLETED",
        "BACKWARD_COMPLETED",
        "GRADIENTS_READY",
        "OPTIMIZER_STEPPED",
        "ITERATION_COMPLETED",
    ]


def test_training_lowers_the_loss(make_trainer, loader):
    trainer = make_trainer()
    trainer.fit(loader, 1)
    first = trainer.state.metrics["train/loss"]
    trainer.fit(loader, 20)
    assert trainer.state.metrics["train/loss"] < 0.6 * first


def test_it_is_shown_as_a_line_or_a_table(make_trainer, loader):
    trainer = make_trainer()
    start = "Trainer(model=TinyModel, parameters=90, optimizer=AdamW, device=cpu"
    assert repr(trainer) == f"{start}, epoch=0, optimizer_step=0)"
    trainer.fit(loader, 2)
    assert repr(trainer).endswith(f"epoch=2, optimizer_step={2 * len(loader)})")
    loss = f"{trainer.state.metrics['train/loss']:.4g}"
    assert f"<tr><th>train/loss</th><td>{loss}</td></tr>" in trainer._repr_html_()


def test_the_step_is_the_one_a_person_would_write(make_trainer, loader):
    trainer, by_hand = make_trainer(), make_trainer()
    torch.manual_seed(1)
    trainer.fit(loader, 2)
    torch.manual_seed(1)
    by_hand.model.train()
    for _ in range(2):
        for batch in loader:
            by_hand.optimizer.zero_grad()
            outputs = by_hand.model(batch.spectra, batch.mask, batch.tabular)
            torch.nn.functional.cross_entropy(outputs["logits"], batch.target).backward()
            by_hand.optimizer.step()
    assert torch.equal(weights(trainer), weights(by_hand))


def test_a_vetoed_step_moves_no_weight_and_is_not_counted(make_trainer, loader):
    trainer = make_trainer()
    before = weights(trainer)
    trainer.add_event_handler(
        TrainEvents.GRADIENTS_READY, lambda t: setattr(t.state, "skip_step", True)
    )
    trainer.fit(loader, 1)
    assert trainer.state.optimizer_step == 0
    assert torch.equal(before, weights(trainer))
    assert all(p.grad is None for p in trainer.model.parameters())


def test_a_filter_on_optimizer_stepped_counts_optimizer_steps(make_trainer, loader):
    trainer, seen = make_trainer(), []
    trainer.add_event_handler(
        TrainEvents.OPTIMIZER_STEPPED(every=4), lambda t: seen.append(t.state.optimizer_step)
    )
    trainer.fit(loader, 2)
    assert seen == [4, 8]


def test_resume_at_an_epochs_end_continues_bit_identically(make_trainer, loader):
    straight, cut, resumed = make_trainer(), make_trainer(), make_trainer(seed=9)
    torch.manual_seed(5)
    straight.fit(loader, 4)
    torch.manual_seed(5)
    cut.fit(loader, 2)
    states = through_a_file(cut.capture())
    torch.manual_seed(77)
    resumed.restore(states)
    resumed.fit(loader, 4)
    assert torch.equal(weights(straight), weights(resumed))
    assert straight.state.metrics == resumed.state.metrics
    assert straight.state.optimizer_step == resumed.state.optimizer_step


class ResumableSampler:
    epoch = position = 0

    def set_epoch(self, epoch):
        self.epoch, self.position = epoch, 0

    def resume_at(self, epoch, position):
        self.epoch, self.position = epoch, position


class ResumableLoader(TinyLoader):
    """Another order each epoch, and able to start in the middle of one."""

    def __init__(self):
        super().__init__()
        self.batch_sampler = ResumableSampler()

    def __iter__(self):
        sampler = self.batch_sampler
        order = torch.randperm(5, generator=torch.Generator().manual_seed(sampler.epoch))
        return iter([self.batches[i] for i in order[sampler.position :]])


def test_resume_within_an_epoch_continues_bit_identically(make_trainer):
    straight, cut, resumed = make_trainer(), make_trainer(), make_trainer(seed=9)
    states = {}
    torch.manual_seed(5)
    straight.fit(ResumableLoader(), 3)
    torch.manual_seed(5)

    @cut.on(Events.ITERATION_COMPLETED(once=8))
    def save_and_leave():
        states.update(through_a_file(cut.capture()))
        cut.terminate()

    cut.fit(ResumableLoader(), 3)
    resumed.restore(states)

    @resumed.on(Events.EPOCH_STARTED)
    def draw():  # a handler that draws when the epoch starts must not shift the streams
        if resumed.state.epoch == 2:
            torch.rand(3)

    resumed.fit(ResumableLoader(), 3)
    assert torch.equal(weights(straight), weights(resumed))
    assert straight.state.metrics == resumed.state.metrics


def test_a_finished_run_trains_on_only_with_more_epochs(make_trainer, loader):
    trainer, notices = make_trainer(), []
    trainer.fit(loader, 2)
    before = weights(trainer)
    trainer.add_event_handler(
        TrainEvents.LOG_EVENT, lambda t: notices.append(t.state.notice["event"])
    )
    trainer.fit(loader, 2)
    assert torch.equal(before, weights(trainer))
    assert notices == ["nothing_to_train"]
    trainer.fit(loader, 3)
    assert trainer.state.epoch == 3
    assert not torch.equal(before, weights(trainer))


def test_a_loader_of_another_length_is_refused_on_resume(make_trainer, loader):
    trainer, resumed = make_trainer(), make_trainer()
    trainer.fit(loader, 1)
    resumed.restore(trainer.capture())
    with pytest.raises(UsageError, match="5 batches an epoch, this loader has 3"):
        resumed.fit(TinyLoader(samples=12), 2)


def test_an_empty_loader_is_refused(make_trainer):
    with pytest.raises(UsageError, match="empty"):
        make_trainer().fit(TinyLoader(samples=0), 1)


def test_every_monitor_of_one_kind_of_handler_is_checked(make_trainer):
    trainer = make_trainer()
    trainer.monitor_metric("train/acuracy", "early_stopping")
    trainer.monitor_metric("train/loss", "early_stopping")
    assert [name for _, name in trainer.monitors] == ["train/acuracy", "train/loss"]
    with pytest.raises(UsageError, match="train/acuracy"):
        trainer.check_monitors()


def test_an_unknown_monitor_is_refused_before_the_first_step(make_trainer, loader):
    trainer = make_trainer()
    trainer.monitor_metric("train/acuracy", "early_stopping")
    with pytest.raises(UsageError, match=r"early_stopping.*did you mean 'train/accuracy'"):
        trainer.fit(loader, 1)
    assert trainer.state.iteration == 0


def test_a_checkpoint_of_other_handlers_names_the_difference(make_trainer):
    trainer = make_trainer()
    states = trainer.capture()
    trainer.register_state("ema", torch.nn.Linear(1, 1))
    with pytest.raises(UsageError, match="lacks ema"):
        trainer.restore(states)
    states["scaler"] = {}
    del trainer.stateful["ema"]
    with pytest.raises(UsageError, match="also holds scaler"):
        trainer.restore(states)


def test_a_checkpoint_of_another_model_names_the_part(make_trainer):
    trainer = make_trainer()
    states = trainer.capture()
    states["model"] = {"head.weight": torch.zeros(3, 3)}
    with pytest.raises(UsageError, match="the checkpoint's model does not fit"):
        trainer.restore(states)


def test_two_things_of_one_name_are_both_kept(make_trainer):
    trainer = make_trainer()
    assert trainer.register_state("ema", torch.nn.Linear(1, 1)) == "ema"
    assert trainer.register_state("ema", torch.nn.Linear(1, 1)) == "ema-2"


@pytest.mark.parametrize("first", [True, False])
def test_first_process_only_handlers_are_attached_on_rank_0(first, make_trainer, monkeypatch):
    class Writer:
        first_process_only = True

        def attach(self, trainer):
            trainer.register_state("writer", torch.nn.Linear(1, 1))

    trainer = make_trainer()
    trainer.attach(Writer())
    states = trainer.capture()
    for module in ("trainer", "checkpointing.process_states"):
        monkeypatch.setattr(f"engine.{module}.is_main_process", lambda: first)
    other = make_trainer()
    other.attach(Writer())
    assert ("writer" in other.stateful) == first
    other.restore(states)  # the first one's, which hold what the others do not have


def test_after_an_exception_the_trainer_can_be_run_again(make_trainer, loader):
    trainer = make_trainer()

    def fail():
        raise ZeroDivisionError

    handle = trainer.add_event_handler(Events.ITERATION_COMPLETED(once=2), fail)
    with pytest.raises(ZeroDivisionError):
        trainer.fit(loader, 2)
    handle.remove()
    assert trainer.fit(loader, 2) is not None
