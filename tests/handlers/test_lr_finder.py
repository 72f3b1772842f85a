from __future__ import annotations

import json
import random
import re
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Events
from torch.utils.data import DataLoader

from engine import TrainEvents, UsageError
from engine.checkpointing import load_checkpoint
from engine.reporting import read_log
from handlers.checkpoint import Checkpoint
from handlers.lr_finder import LRFinder, LRSearch, find_lr, verdict, write_page
from handlers.lr_schedule import LRSchedule
from handlers.run_log import RunLog
from tests.tiny_problem import TinyLoader

QUICK: dict[str, Any] = {"end_lr": 10.0, "num_iter": 60}


def weights(trainer):
    return torch.cat([t.flatten().float() for t in trainer.model.state_dict().values()])


def curve_of(path):
    text = path.read_text()
    begin = text.index('id="search">') + len('id="search">')
    return json.loads(text[begin : text.index("</script>", begin)])


@pytest.fixture
def search():
    return LRSearch([1e-3, 1e-2, 1e-1], [0.7, 0.5], [0.7, 0.5, float("inf")], 1e-2, True)


def test_it_searches_before_training_and_says_what_it_found(make_trainer):
    trainer, loader = make_trainer(), TinyLoader(samples=200)
    trainer.attach(RunLog(), LRSchedule("cosine", warmup_steps=20), LRFinder(**QUICK))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer.fit(loader, 1)
    rows = read_log(trainer.run_dir / "log.jsonl")
    assert [row["event"] for row in rows[:2]] == ["run_started", "lr_suggested"]
    page = trainer.run_dir / "report" / "lr_finder.html"
    assert rows[1]["page"] == str(page)
    assert rows[1]["message"].startswith("suggested learning rate ")
    curve = curve_of(page)["curve"]
    assert curve["suggestion"] == rows[1]["lr"]
    assert 1e-6 < rows[1]["lr"] < 10.0
    assert "run learning rate</h1>" in page.read_text()


def test_training_is_the_same_as_without_it(make_trainer, loader):
    plain, searched = make_trainer(), make_trainer()
    for trainer, handlers in ((plain, []), (searched, [LRFinder(**QUICK)])):
        trainer.attach(LRSchedule("cosine", warmup_steps=3), *handlers)
        torch.manual_seed(5)
        trainer.fit(loader, 2)
    assert torch.equal(weights(plain), weights(searched))
    assert plain.state.metrics == searched.state.metrics


def test_a_resumed_run_does_not_search_again(make_trainer, loader):
    first, resumed = make_trainer(), make_trainer()
    for trainer in (first, resumed):
        trainer.attach(LRFinder(**QUICK), Checkpoint(None, save_top_k=0, save_best=False))
    first.fit(loader, 1)
    page = first.run_dir / "report" / "lr_finder.html"
    page.unlink()
    resumed.restore(load_checkpoint(first.run_dir / "checkpoints" / "last.pt")["states"])
    resumed.fit(loader, 2)
    assert not page.exists()


def test_a_run_that_is_told_to_stop_does_not_wait_for_the_search(make_trainer, loader):
    trainer, steps = make_trainer(), []
    trainer.attach(LRFinder(num_iter=10_000, end_lr=1e-5))
    forward = trainer.model.forward

    def counted(*batch):
        steps.append(1)
        if len(steps) == 8:
            trainer.terminate()
        return forward(*batch)

    trainer.model.forward = counted
    trainer.fit(loader, 1)
    assert 8 <= len(steps) < 20


def test_nothing_listens_to_steps(make_trainer):
    trainer = make_trainer()
    before = {event: len(handlers) for event, handlers in trainer._event_handlers.items()}
    trainer.attach(LRFinder())
    added = [
        e for e, handlers in trainer._event_handlers.items() if len(handlers) > before.get(e, 0)
    ]
    assert added == [Events.STARTED]


def test_the_page_needs_no_network_and_offers_no_upload(search, tmp_path):
    page = tmp_path / "deep" / "lr.html"
    write_page(search, page, title="a </script> <b>run</b>")
    text = page.read_text()
    own = text[: text.index("<script>")] + text[text.index('<div id="lr-finder">') :]
    assert not re.search(r"\b(src|href|action)\s*=", own)
    assert "</script> <b>" not in own
    config = curve_of(page)["config"]
    assert config["showSendToCloud"] is False
    assert "sendChartToCloud" in config["modeBarButtonsToRemove"]


def test_the_page_shows_an_infinite_loss_as_a_gap(search, tmp_path):
    write_page(search, tmp_path / "lr.html")
    assert curve_of(tmp_path / "lr.html")["curve"]["raw"] == [0.7, 0.5, None]


def test_the_verdict_says_what_to_do_next(search):
    assert verdict(search) == "suggested learning rate 1.0e-02"
    never = LRSearch([0.1, 0.2], [0.7, 0.6], [0.7, 0.6], 0.1, False)
    assert "try a larger end_lr" in verdict(never)


def test_wrong_settings_are_refused(make_trainer, search, tmp_path):
    with pytest.raises(UsageError, match="start_lr: a number above 0"):
        LRFinder(start_lr=-1.0)
    with pytest.raises(UsageError, match="num_iter"):
        LRFinder(num_iter=3)
    trainer = make_trainer()
    trainer.run_dir = None
    with pytest.raises(UsageError, match="no run_dir"):
        trainer.attach(LRFinder())
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot write"):
        write_page(search, tmp_path / "file" / "lr.html")


class Shuffled(DataLoader[Any]):
    """Torch's loader over single samples, shuffled, with or without a stream of its own."""

    def __init__(self, generator=None):
        self.source = TinyLoader(samples=20, batch_size=4)
        super().__init__(
            list(range(5)),  # type: ignore[arg-type]
            batch_size=1,
            shuffle=True,
            collate_fn=lambda rows: self.source.batches[rows[0]],
            generator=generator,
        )


def test_the_rate_grows_by_the_same_factor_from_start_to_end(make_trainer, loader):
    search = find_lr(make_trainer(), loader, 1e-5, 1e-1, num_iter=40)
    assert len(search.lrs) == len(search.losses) == len(search.raw_losses) == 40
    steps = np.diff(np.log10(search.lrs))
    assert np.allclose(steps, 4 / 39)
    assert search.lrs[0] == pytest.approx(1e-5)
    assert search.lrs[-1] == pytest.approx(1e-1)


def test_a_rate_that_learns_is_suggested(make_trainer):
    loader = TinyLoader(samples=400, batch_size=8)
    search = find_lr(make_trainer(name="sgd"), loader, 1e-5, 100.0, num_iter=150)
    assert search.suggestion in search.lrs
    assert search.diverged
    assert len(search.lrs) < 150
    tried = {}
    for lr in (1e-5, search.suggestion):
        trainer = make_trainer(name="sgd", lr=lr)
        trainer.fit(loader, 2)
        tried[lr] = trainer.state.metrics["train/loss"]
    assert tried[search.suggestion] < 0.9 * tried[1e-5]


@pytest.mark.parametrize("own_stream", [False, True])
def test_training_afterwards_is_as_if_nothing_had_been_searched(make_trainer, own_stream):
    def stream():
        return torch.Generator().manual_seed(3) if own_stream else None

    plain, after = make_trainer(), make_trainer()
    torch.manual_seed(5)
    plain.fit(Shuffled(stream()), 2)
    torch.manual_seed(5)
    loader = Shuffled(stream())
    groups = [dict(group) for group in after.optimizer.param_groups]
    drawn = random.getstate()
    find_lr(after, loader, num_iter=23)
    assert random.getstate() == drawn
    for group, before in zip(after.optimizer.param_groups, groups, strict=True):
        assert {k: v for k, v in group.items() if k != "params"} == {
            k: v for k, v in before.items() if k != "params"
        }
    assert not after.optimizer.state
    after.fit(loader, 2)
    assert torch.equal(weights(plain), weights(after))
    assert plain.state.metrics == after.state.metrics


def test_an_exception_in_it_leaves_all_as_it_was(make_trainer, loader):
    trainer = make_trainer()
    before, stream = weights(trainer), torch.get_rng_state()
    calls = []

    def failing_loss(outputs, target):
        calls.append(1)
        if len(calls) == 7:
            raise ZeroDivisionError
        return {"total_loss": outputs["logits"].sum()}

    trainer.loss = failing_loss
    with pytest.raises(ZeroDivisionError):
        find_lr(trainer, loader)
    assert torch.equal(weights(trainer), before)
    assert torch.equal(torch.get_rng_state(), stream)


def test_handlers_take_no_part(make_trainer, loader):
    trainer, fired = make_trainer(), []
    for event in (Events.STARTED, Events.EPOCH_COMPLETED, TrainEvents.OPTIMIZER_STEPPED):
        trainer.add_event_handler(event, lambda e=event: fired.append(e))
    find_lr(trainer, loader, num_iter=10)
    assert not fired
    assert trainer.state.iteration == 0


def test_groups_keep_the_ratios_of_their_full_rates(make_trainer, loader):
    trainer, seen = make_trainer(), []
    first, second = trainer.optimizer.param_groups
    first["initial_lr"], second["initial_lr"] = 0.01, 0.001
    first["lr"], second["lr"] = 1e-9, 1e-9  # as a warm-up leaves them

    class Watched(torch.optim.AdamW):
        def step(self, closure=None):  # type: ignore[override]
            seen.append([group["lr"] for group in self.param_groups])
            return super().step()

    trainer.optimizer.__class__ = Watched
    search = find_lr(trainer, loader, num_iter=12)
    assert [rates[0] for rates in seen[:12]] == search.lrs
    assert all(rates[1] == pytest.approx(0.1 * rates[0]) for rates in seen)


def test_nan_ends_the_search_and_is_never_the_least(make_trainer, loader):
    trainer = make_trainer()
    calls, loss = [], trainer.loss

    def breaking_loss(outputs, target):
        calls.append(1)
        broken = float("nan") if len(calls) > 17 else 2.0 - 0.1 * len(calls)
        return {"total_loss": 0 * loss(outputs, target)["total_loss"] + broken}

    trainer.loss = breaking_loss
    search = find_lr(trainer, loader, num_iter=50)
    assert (len(search.lrs), len(search.losses)) == (18, 17)
    assert search.diverged
    assert search.suggestion in search.lrs[:17]


def test_where_the_loss_never_falls_nothing_is_suggested(make_trainer, loader):
    trainer, calls, loss = make_trainer(), [], make_trainer().loss

    def rising_loss(outputs, target):
        calls.append(1)
        return {"total_loss": 0 * loss(outputs, target)["total_loss"] + len(calls)}

    trainer.loss = rising_loss
    search = find_lr(trainer, loader, num_iter=10)
    assert search.suggestion is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"start_lr": 0.0}, "start_lr: a number above 0 and below 1 was expected, not 0.0"),
        ({"start_lr": 2.0}, "start_lr: a number above 0 and below 1 "),
        ({"end_lr": "1"}, "end_lr: a number at least 0 was"),
        ({"num_iter": 5}, "lr_finder.num_iter: a whole number at least 10 was expected"),
    ],
)
def test_a_search_that_cannot_find_anything_is_refused(make_trainer, loader, settings, words):
    with pytest.raises(UsageError, match=words):
        find_lr(make_trainer(), loader, **settings)


def test_a_loss_that_never_fell_suggests_nothing():
    assert verdict(LRSearch([0.1], [0.7], [0.7], None, False)) == (
        "no learning rate to suggest: the loss never fell; choose a smaller start_lr, or more steps"
    )
