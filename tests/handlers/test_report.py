from __future__ import annotations

import io

import pytest
import torch
from ignite.engine import Events

from engine import Phase, UsageError
from handlers.report import Report


@pytest.fixture(autouse=True)
def follow_every_epoch(monkeypatch):
    monkeypatch.setattr("engine.reporting.pages.LAG_S", 0.0)
    monkeypatch.setattr("engine.reporting.pages.LAG_OF_COST", 0.0)


def test_the_page_is_made_from_the_epochs_and_written(make_trainer, loader):
    trainer, seen = make_trainer(), []

    def page(of, epochs):
        assert of is trainer
        seen.append([row["epoch"] for row in epochs])
        return f"{epochs[-1]['metrics']['train/loss']:.6f}"

    Report(page).attach(trainer)
    trainer.fit(loader, 3)
    assert seen == [[1], [1, 2], [1, 2, 3]]
    text = (trainer.run_dir / "report" / "index.html").read_text("utf-8")
    assert text == f"{trainer.state.metrics['train/loss']:.6f}"


def test_the_page_can_be_watched_while_the_run_goes_on(make_trainer, loader):
    trainer, found = make_trainer(), []
    Report(lambda trainer, epochs: str(len(epochs))).attach(trainer)
    path = trainer.run_dir / "report" / "index.html"
    trainer.add_event_handler(
        Events.EPOCH_STARTED, lambda: found.append(path.exists() and path.read_text())
    )
    trainer.fit(loader, 3)
    assert found == [False, "1", "2"]


def test_an_expensive_page_is_written_less_often_and_at_the_end(make_trainer, loader, monkeypatch):
    monkeypatch.setattr("engine.reporting.pages.LAG_OF_COST", 1e9)
    trainer, written = make_trainer(), []

    def page(trainer, epochs):
        written.append(len(epochs))
        return ""

    Report(page).attach(trainer)
    trainer.fit(loader, 5)
    assert written == [1, 5]


def test_alone_it_shows_the_training_curves(make_trainer, loader):
    trainer = make_trainer()
    Report().attach(trainer)
    trainer.fit(loader, 2)
    text = (trainer.run_dir / "report" / "index.html").read_text("utf-8")
    assert "2 of 2 epochs" in text
    assert '"title": "loss"' in text


def test_a_continued_run_continues_its_history(make_trainer, loader):
    def page(trainer, epochs):
        return str([(row["epoch"], row["metrics"]["train/loss"]) for row in epochs])

    trainer, file = make_trainer(), io.BytesIO()
    path = trainer.run_dir / "report" / "index.html"
    Report(page).attach(trainer)
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED(once=2),
        lambda: torch.save(trainer.capture(), file),
        phase=Phase.SAVE,
    )
    torch.manual_seed(1)
    trainer.fit(loader, 4)

    uncut = path.read_text("utf-8")

    continued = make_trainer()
    Report(page).attach(continued)
    file.seek(0)
    continued.restore(torch.load(file, weights_only=True))
    continued.fit(loader, 4)
    assert path.read_text("utf-8") == uncut
    assert uncut.startswith("[(1, ")
    assert "(4, " in uncut


def test_it_needs_a_place(make_trainer):
    trainer = make_trainer()
    trainer.run_dir = None
    with pytest.raises(UsageError, match=r"report.path"):
        Report().attach(trainer)
    with pytest.raises(UsageError, match=r"report.every: a whole number"):
        Report(every=0)
