from __future__ import annotations

import io
import json
import os
import re
import sys
from html.parser import HTMLParser

import pytest
import torch
from ignite.engine import Events
from plotly.offline import get_plotlyjs

from engine import Phase, UsageError
from engine.reporting import make_panels, render
from handlers.training_curves import TrainingCurves
from handlers.validation import Validation
from tests.tiny_problem import TinyLoader

# What makes a browser fetch something.
LOADING = {"src", "srcset", "href", "data", "action", "poster", "background"}


class Page(HTMLParser):
    """A page taken apart."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.words, self._open = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "link", "img", "br"):
            self._open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] == "script":
            self.scripts[-1] += data
        else:
            self.words.append(data)

    @property
    def data(self):
        return json.loads(self.scripts[1])

    @property
    def panels(self):
        return {panel["title"]: panel for panel in self.data["panels"]}

    def line(self, title, name):
        return next(li for li in self.panels[title]["lines"] if li["name"] == name)


def follow_every_epoch(monkeypatch):
    monkeypatch.setattr("engine.reporting.pages.LAG_S", 0.0)
    monkeypatch.setattr("engine.reporting.pages.LAG_OF_COST", 0.0)


def epochs_shown(curves):
    return curves._last_shown["epoch"] if curves._last_shown else 0


def read(path):
    return Page(path.read_text("utf-8"))


@pytest.fixture
def trained(make_trainer, make_evaluator, loader):
    trainer, rows = make_trainer(lr=0.02), []
    TrainingCurves().attach(trainer)
    Validation(make_evaluator(trainer), TinyLoader(seed=1), every=2).attach(trainer)
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED, lambda: rows.append(dict(trainer.state.metrics))
    )
    trainer.fit(loader, 4)
    return trainer, rows, read(trainer.run_dir / "report" / "training_curves.html")


def test_each_metric_has_a_chart_with_training_and_validation(trained):
    _, rows, page = trained
    titles = list(page.panels)
    assert (titles[0], titles[-1]) == ("loss", "lr")
    assert {"accuracy", "auroc", "f1"} < page.panels.keys()
    training, validation = page.line("loss", "training"), page.line("loss", "validation")
    assert training["epochs"] == [1, 2, 3, 4]
    assert training["values"] == [row["train/loss"] for row in rows]
    assert validation["epochs"] == [2, 4]
    assert validation["values"] == [rows[1]["val/loss"], rows[3]["val/loss"]]
    assert page.line("lr", "lr")["values"] == [0.02] * 4


def test_every_chart_has_a_place_of_its_own_on_the_page(trained):
    _, _, page = trained
    places = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(places) == len(set(places))
    assert {panel["id"] for panel in page.panels.values()} < set(places)


def test_the_page_loads_nothing_from_anywhere(trained):
    _, _, page = trained
    for tag, attributes in page.tags:
        assert not LOADING & attributes.keys(), tag
        assert tag not in ("link", "iframe", "object", "embed")
    styles = [words for words in page.words if "{" in words]
    assert not any("url(" in style or "@import" in style for style in styles)


def test_the_library_stands_in_the_page_once(trained):
    _, _, page = trained
    assert len(page.scripts) == 3
    assert page.scripts[0] == get_plotlyjs().replace("</script", "<\\/script")


def test_nothing_on_the_page_offers_to_upload_the_charts(trained):
    _, _, page = trained
    config = page.data["config"]
    assert config["showSendToCloud"] is False
    assert config["displaylogo"] is False
    assert config["responsive"] is True
    assert "Plotly.react(panel.id, lines," in page.scripts[2]
    assert "}, config);" in page.scripts[2]
    # The option is one that this release of the library still knows.
    assert "showSendToCloud:{valType" in page.scripts[0]


def test_the_page_is_one_for_people(trained):
    trainer, _, page = trained
    tags = dict(page.tags)
    assert tags["html"] == {"lang": "en"}
    metas = [attributes for tag, attributes in page.tags if tag == "meta"]
    assert {"charset": "utf-8"} in metas
    assert any(meta.get("name") == "viewport" for meta in metas)
    words = " ".join(page.words)
    assert f"{trainer.run_dir.name} - training curves" in words
    assert "prefers-color-scheme: dark" in words
    assert "4 of 4 epochs" in words
    assert f"{trainer.state.metrics['val/auroc']:.4g}" in words  # in the table, without a script


def test_names_are_text_and_never_markup():
    name = '</script><img src=x onerror="alert(1)">'
    history = [{"epoch": 1, "metrics": {f"train/{name}": 1.0, "train/loss": 0.5}}]
    page = Page(render(history, title=name, max_epochs=1))
    assert "img" not in dict(page.tags)
    assert name in page.panels
    assert any(name in words for words in page.words)


def test_an_undefined_value_is_a_gap_unlike_an_unmeasured_epoch():
    history = [
        {"epoch": 1, "metrics": {"val/auroc": float("nan")}},
        {"epoch": 2, "metrics": {}},
        {"epoch": 3, "metrics": {"val/auroc": 0.75, "val/loss": float("inf")}},
    ]
    panels = {panel["title"]: panel["lines"][0] for panel in make_panels(history)}
    assert panels["auroc"]["epochs"] == [1, 3]
    assert panels["auroc"]["values"] == [None, 0.75]
    assert panels["loss"]["values"] == [None]
    Page(render(history, title="run", max_epochs=3))


def test_the_page_follows_the_run_and_is_always_whole(make_trainer, loader, monkeypatch):
    follow_every_epoch(monkeypatch)
    trainer, epochs = make_trainer(), []
    TrainingCurves().attach(trainer)

    @trainer.on(Events.EPOCH_STARTED)
    def look(trainer):
        page = trainer.run_dir / "report" / "training_curves.html"
        if page.exists():
            epochs.append(read(page).line("loss", "training")["epochs"][-1])
            assert os.listdir(page.parent) == [page.name]

    trainer.fit(loader, 3)
    assert epochs == [1, 2]


def test_epochs_too_short_to_look_at_are_not_written_one_by_one(make_trainer, loader):
    trainer, written = make_trainer(), []
    curves = TrainingCurves()
    curves.attach(trainer)
    trainer.add_event_handler(Events.EPOCH_STARTED, lambda: written.append(epochs_shown(curves)))
    trainer.fit(loader, 4)
    assert written == [0, 1, 1, 1]
    assert read(curves.path).line("loss", "training")["epochs"] == [1, 2, 3, 4]


def test_it_can_be_written_less_often_and_ends_complete(make_trainer, loader, monkeypatch):
    follow_every_epoch(monkeypatch)
    trainer, writes = make_trainer(), []
    curves, page = TrainingCurves(every=2), trainer.run_dir / "report" / "training_curves.html"
    curves.attach(trainer)
    trainer.add_event_handler(
        Events.EPOCH_STARTED, lambda: writes.append(page.exists() and epochs_shown(curves))
    )
    trainer.fit(loader, 5)
    assert writes == [False, False, 2, 2, 4]
    assert read(curves.path).line("loss", "training")["epochs"] == [1, 2, 3, 4, 5]


def test_a_stopped_run_shows_all_its_epochs(make_trainer, loader):
    trainer = make_trainer()
    curves = TrainingCurves(every=100)
    curves.attach(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED(once=3), lambda: trainer.terminate())
    trainer.fit(loader, 10)
    assert read(curves.path).line("loss", "training")["epochs"] == [1, 2, 3]


def test_a_continued_run_continues_its_curves(make_trainer, loader):
    trainer, file = make_trainer(), io.BytesIO()
    TrainingCurves().attach(trainer)
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED(once=2),
        lambda: torch.save(trainer.capture(), file),
        phase=Phase.SAVE,
    )
    torch.manual_seed(1)
    trainer.fit(loader, 4)
    path = trainer.run_dir / "report" / "training_curves.html"
    uncut = read(path).panels
    path.unlink()

    continued = make_trainer()
    TrainingCurves().attach(continued)
    file.seek(0)
    continued.restore(torch.load(file, weights_only=True))
    continued.fit(loader, 4)
    assert read(path).panels == uncut


def test_a_full_disk_ends_in_a_clear_line_and_leaves_the_page(make_trainer, loader, monkeypatch):
    trainer, curves = make_trainer(), TrainingCurves()
    curves.attach(trainer)
    trainer.fit(loader, 1)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UsageError, match=r"cannot write .*training_curves.html: No space left"):
        trainer.fit(loader, 2)
    assert read(curves.path).line("loss", "training")["epochs"] == [1]
    assert os.listdir(trainer.run_dir / "report") == ["training_curves.html"]


def test_a_place_can_be_named_and_without_any_it_refuses(make_trainer, loader, tmp_path):
    trainer = make_trainer()
    trainer.run_dir = None
    with pytest.raises(UsageError, match=r"training_curves.path"):
        TrainingCurves().attach(trainer)
    TrainingCurves(tmp_path / "new" / "page.html").attach(trainer)
    trainer.fit(loader, 1)
    assert re.search(r"<h1>new</h1>", (tmp_path / "new" / "page.html").read_text("utf-8"))


@pytest.mark.parametrize("every", [0, "1", 2.5])
def test_an_interval_that_is_no_count_is_refused(every):
    with pytest.raises(UsageError, match=r"training_curves.every: a whole number"):
        TrainingCurves(every=every)


def test_a_whole_interval_may_be_written_with_a_point():
    curves = TrainingCurves(every=2.0)  # type: ignore[arg-type]
    assert isinstance(curves.every, int)


def test_the_libraries_are_imported_only_to_write():
    for module in ("handlers.training_curves", "engine.reporting.pages"):
        assert not {"plotly", "get_plotlyjs", "jinja2"} & vars(sys.modules[module]).keys()


def test_a_metric_of_both_subsets_is_one_chart():
    rows = [{"epoch": 1, "metrics": {"train/loss": 0.7, "val/loss": 0.8, "lr": 0.1}}]
    charts = [(chart["title"], len(chart["lines"])) for chart in make_panels(rows)]
    assert charts == [("loss", 2), ("lr", 1)]
