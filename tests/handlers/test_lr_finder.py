from __future__ import annotations

import json
import re
import warnings
from typing import Any

import pytest
import torch
from ignite.engine import Events

from engine import UsageError
from engine.checkpointing import load_checkpoint
from engine.lr_search import LRSearch
from engine.reporting import read_log
from handlers.checkpoint import Checkpoint
from handlers.lr_finder import LRFinder, verdict, write_page
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


def test_the_page_asks_the_network_for_nothing_and_offers_no_upload(search, tmp_path):
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
    with pytest.raises(UsageError, match="start_lr must be above 0"):
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
