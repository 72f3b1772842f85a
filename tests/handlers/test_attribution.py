from __future__ import annotations

import sys
from dataclasses import replace
from pkgutil import resolve_name
from typing import Any

import pytest
import torch
from ignite.engine import Events

from datasets.errors import UsageError
from engine import EpochMetrics, Evaluator, Trainer
from engine.checkpointing import load_checkpoint
from engine.events import Phase
from engine.explain import Explained, attribute, explain, importance_of, read_explained
from engine.losses import LOSSES, CrossEntropy
from engine.reporting import read_log
from experiments.builders import build_handlers
from experiments.config import load_config
from handlers.attribution import FILE_NAME, Attribution
from handlers.checkpoint import Checkpoint
from handlers.ema import EMA
from handlers.run_log import RunLog
from tests.tiny_problem import FEATURES, TinyLoader, TinyModel

QUICK: dict[str, Any] = {"steps": 4}


@pytest.fixture
def evaluator():
    torch.manual_seed(0)
    return Evaluator(TinyModel(), CrossEntropy(), EpochMetrics())


def found_by(attribution: Attribution) -> Explained:
    assert attribution.explained is not None
    return attribution.explained


def weights(trainer):
    return torch.cat([t.flatten().float() for t in trainer.model.state_dict().values()])


# -- on an evaluator ----------------------------------------------------------------------------


def test_it_explains_what_an_evaluator_evaluates(evaluator, loader):
    attribution = Attribution(**QUICK)
    attribution.attach(evaluator)
    evaluator.evaluate(loader)
    found = found_by(attribution)
    assert found.sample_id == [name for batch in loader for name in batch.sample_id]
    assert found.score == "log_odds"
    last = loader.batches[-1]
    own = attribute(evaluator.model, last, score="log_odds", **QUICK)
    torch.testing.assert_close(torch.stack(found.scans[-4:]), own.spectra)
    torch.testing.assert_close(attribution.importance.points, importance_of(found).points)


def test_each_evaluation_starts_again_up_to_max_samples(evaluator):
    attribution = Attribution(max_samples=6, **QUICK)
    attribution.attach(evaluator)
    evaluator.evaluate(TinyLoader())
    assert len(found_by(attribution).scans) == 6
    evaluator.evaluate(TinyLoader(samples=4, seed=1))
    assert len(found_by(attribution).scans) == 4


def test_an_evaluation_is_the_same_with_it(evaluator, loader):
    plain = evaluator.evaluate(loader)
    evaluator.model.train()
    before = torch.get_rng_state()
    Attribution(method="gradient_shap", **QUICK).attach(evaluator)
    assert evaluator.evaluate(loader) == plain
    assert torch.equal(before, torch.get_rng_state())
    assert evaluator.model.training
    assert all(parameter.grad is None for parameter in evaluator.model.parameters())


def test_an_evaluators_file_is_written_where_a_path_is_given(evaluator, loader, tmp_path):
    attribution = Attribution(path=tmp_path / "found", **QUICK)
    attribution.attach(evaluator)
    evaluator.evaluate(loader)
    again = read_explained(tmp_path / "found")
    assert again.sample_id == found_by(attribution).sample_id
    torch.testing.assert_close(again.scans, found_by(attribution).scans)


def test_what_to_start_from_and_what_to_keep_can_be_chosen(evaluator, loader):
    baseline = torch.ones(FEATURES), torch.zeros(0)
    attribution = Attribution(baseline=baseline, keep_intensities=True, **QUICK)
    attribution.attach(evaluator)
    evaluator.evaluate(loader)
    found, first = found_by(attribution), loader.batches[0]
    own = attribute(evaluator.model, first, score="log_odds", baseline=baseline, **QUICK)
    torch.testing.assert_close(torch.stack(found.scans[:4]), own.spectra)
    assert found.intensities is not None
    assert torch.equal(torch.stack(found.intensities[:4]), first.spectra)


def test_before_anything_was_explained_there_is_nothing():
    assert Attribution().explained is None
    with pytest.raises(UsageError, match="nothing has been explained yet"):
        _ = Attribution().importance


# -- on a trainer -------------------------------------------------------------------------------


def test_the_trained_model_is_explained_written_and_announced(make_trainer, loader):
    trainer = make_trainer()
    attribution = Attribution(loader=TinyLoader(seed=1), max_samples=7, **QUICK)
    trainer.attach(RunLog(), attribution)
    trainer.fit(loader, 2)
    path = trainer.run_dir / "report" / FILE_NAME
    row = next(
        row
        for row in read_log(trainer.run_dir / "log.jsonl")
        if row["event"] == "attributions_computed"
    )
    assert (row["samples"], row["method"]) == (7, "integrated_gradients")
    assert row["path"] == str(path)
    found = read_explained(path)
    own = attribute(trainer.model, TinyLoader(seed=1).batches[0], score="log_odds", **QUICK)
    torch.testing.assert_close(torch.stack(found.scans[:4]), own.spectra)


def test_training_is_the_same_as_without_it(make_trainer, loader):
    plain, explained = make_trainer(), make_trainer()
    for trainer, handlers in (
        (plain, []),
        (explained, [Attribution("gradient_shap", TinyLoader(seed=1), every=1, **QUICK)]),
    ):
        trainer.attach(*handlers)
        torch.manual_seed(5)
        trainer.fit(loader, 2)
    assert torch.equal(weights(plain), weights(explained))
    assert plain.state.metrics == explained.state.metrics


def test_the_history_tells_how_what_counts_came_about(make_trainer, loader):
    trainer, other = make_trainer(), TinyLoader(seed=1)
    attribution = Attribution(loader=other, every=2, **QUICK)
    expected = []
    trainer.attach(attribution)

    @trainer.on(Events.EPOCH_COMPLETED(every=2), phase=Phase.REPORT)
    def explain_by_hand(trainer):
        expected.append(importance_of(explain(trainer.model, other, **QUICK)).points)

    trainer.fit(loader, 5)
    assert [row["epoch"] for row in attribution.history] == [2, 4]
    assert attribution.history[0]["samples"] == 20
    for row, points in zip(attribution.history, expected, strict=True):
        assert torch.equal(row["points"], points)
    assert not torch.equal(expected[0], expected[1])


def test_a_checkpoint_has_the_history_and_a_resume_continues_it(make_trainer, loader):
    first, resumed, straight = (make_trainer() for _ in range(3))
    found = []
    for trainer in (first, resumed, straight):
        found.append(Attribution(loader=TinyLoader(seed=1), every=1, **QUICK))
        trainer.attach(found[-1], Checkpoint(None, save_top_k=0, save_best=False))
    torch.manual_seed(1)
    straight.fit(loader, 3)
    torch.manual_seed(1)
    first.fit(loader, 2)
    path = first.run_dir / "checkpoints" / "last.pt"
    states = load_checkpoint(path)["states"]
    assert [row["epoch"] for row in states["attribution"]["history"]] == [1, 2]
    resumed.restore(states)
    resumed.fit(loader, 3)
    assert [row["epoch"] for row in found[1].history] == [1, 2, 3]
    for one, other in zip(found[1].history, found[2].history, strict=True):
        assert torch.equal(one["points"], other["points"])


def test_a_run_that_is_cut_within_an_epoch_explains_nothing(make_trainer, loader):
    trainer = make_trainer()
    attribution = Attribution(loader=TinyLoader(seed=1), **QUICK)
    trainer.attach(attribution)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=3), trainer.terminate)
    trainer.fit(loader, 2)
    assert trainer.state.iteration == 3
    assert attribution.explained is None
    assert not (trainer.run_dir / "report").exists()


def test_the_weights_that_are_measured_are_those_explained(make_trainer, loader):
    trainer, ema = make_trainer(), EMA(0.9, warmup=False)
    attribution = Attribution(
        loader=TinyLoader(seed=1), measured_weights=ema.averaged_weights, **QUICK
    )
    trainer.attach(ema, attribution)
    trainer.fit(loader, 2)
    batch = TinyLoader(seed=1).batches[0]
    with ema.averaged_weights():
        averaged = attribute(trainer.model, batch, score="log_odds", **QUICK).spectra
    live = attribute(trainer.model, batch, score="log_odds", **QUICK).spectra
    found = torch.stack(found_by(attribution).scans[:4])
    torch.testing.assert_close(found, averaged)
    assert not torch.allclose(found, live)


def test_without_a_run_dir_nothing_is_written(make_trainer, loader, tmp_path, monkeypatch):
    trainer = make_trainer()
    trainer.run_dir = None
    monkeypatch.chdir(tmp_path)
    attribution = Attribution(loader=loader, **QUICK)
    trainer.attach(attribution)
    trainer.fit(loader, 1)
    assert attribution.explained is not None
    assert not list(tmp_path.rglob(FILE_NAME))


def test_an_unknown_output_is_refused_before_training(make_trainer, loader):
    trainer = make_trainer()
    trainer.attach(Attribution(loader=loader, target=2, **QUICK))
    with pytest.raises(UsageError, match="outputs 0 to 1, not 2"):
        trainer.fit(loader, 1)
    assert trainer.state.iteration == 0


def test_a_bar_counts_the_samples_where_somebody_watches(make_trainer, loader, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    trainer = make_trainer()
    trainer.attach(Attribution(loader=loader, max_samples=12, rows=4, **QUICK))
    trainer.fit(loader, 1)
    shown = capsys.readouterr().err
    assert "explaining" in shown
    assert "/12" in shown


@pytest.mark.parametrize(
    ("handlers", "warned"),
    [
        ("[{name: gradient_norm}, {name: gradient_norm}]", ["gradient_norm is attached 2 times"]),
        (
            "[{name: gradient_norm}, {name: handlers.gradient_norm.GradientNorm}]",
            ["handlers.gradient_norm.GradientNorm is attached 2 times"],
        ),
        ("[{name: progress}]", ["progress is attached 2 times"]),  # there already by itself
        ("[{name: gradient_norm}, {name: throughput}]", []),
    ],
)
def test_a_handler_that_is_attached_twice_is_warned_of(make_trainer, handlers, warned):
    config = load_config("tft_baseline", [("handlers", handlers)])
    trainer = make_trainer()
    evaluator = Evaluator(trainer.model, CrossEntropy(), EpochMetrics())
    built = build_handlers(config, trainer, evaluator, TinyLoader(seed=1), [])
    assert len(built.repeated) == len(warned)
    for line, words in zip(built.repeated, warned, strict=True):
        assert words in line


def test_a_configuration_gives_loader_and_averaged_weights(make_trainer, tmp_path):
    config = load_config(
        "tft_baseline",
        [("ema.decay", "0.9"), ("handlers", "[{name: attribution, params: {steps: 4}}]")],
    )
    trainer, val = make_trainer(), TinyLoader(seed=1)
    evaluator = Evaluator(trainer.model, CrossEntropy(), EpochMetrics())
    built = build_handlers(config, trainer, evaluator, val, [])
    attribution = trainer.stateful["attribution"]
    assert isinstance(attribution, Attribution)
    assert attribution.loader is val
    assert built.averager is not None
    with attribution.measured_weights(), pytest.raises(RuntimeError, match="are in the model"):
        built.averager.state_dict()
    built.close()


def test_what_cannot_be_used_is_refused_in_a_line(make_trainer):
    with pytest.raises(UsageError, match="did you mean 'saliency'"):
        Attribution("salience")
    with pytest.raises(UsageError, match=r"attribution\.every: a whole number"):
        Attribution(every=0)
    with pytest.raises(UsageError, match=r"attribution\.steps: a whole number"):
        Attribution(steps=0)
    with pytest.raises(UsageError, match="did you mean 'log_odds'"):
        Attribution(score="log_odd")
    with pytest.raises(UsageError, match=r"attribution\.loader"):
        make_trainer().attach(Attribution())


# -- labels and values --------------------------------------------------------------------------


def labelled(loader, outputs=2):
    for number, batch in enumerate(loader.batches):
        values = torch.stack([batch.target.float()] * outputs, dim=1)
        loader.batches[number] = replace(batch, target=values)
    return loader


def test_several_labels_are_explained_each_by_itself(loader, tmp_path):
    torch.manual_seed(0)
    labels = EpochMetrics(["accuracy"], task="multilabel")
    evaluator = Evaluator(TinyModel(), resolve_name(LOSSES["bce"])(), labels)
    attribution = Attribution(**QUICK, path=tmp_path / "found")
    attribution.attach(evaluator)
    evaluator.evaluate(labelled(loader))
    assert [set(one.target.tolist()) for one in attribution.sets] == [{0}, {1}]
    for output, one in enumerate(attribution.sets):
        again = read_explained(tmp_path / "found", output)
        assert torch.equal(again.tabular, one.tabular)
    for ask in (lambda: attribution.explained, lambda: attribution.importance):
        with pytest.raises(UsageError, match="2 outputs were explained, each by itself"):
            ask()


def test_the_history_of_several_labels_has_a_row_for_each(loader):
    torch.manual_seed(0)
    model = TinyModel()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = Trainer(model, optimizer, resolve_name(LOSSES["bce"])())
    attribution = Attribution(loader=labelled(TinyLoader(seed=1)), every=1, **QUICK)
    trainer.attach(attribution)
    trainer.fit(labelled(loader), max_epochs=2)
    rows = [(row["epoch"], row["output"]) for row in attribution.history]
    assert rows == [(1, 0), (1, 1), (2, 0), (2, 1)]
    assert len(attribution.sets) == 2
