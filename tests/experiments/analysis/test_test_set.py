from __future__ import annotations

import html
import json
from typing import Any

import pytest
import torch
from ignite.engine import Events

from datasets.errors import UsageError
from engine.evaluator import Evaluator
from engine.explain import read_explained
from engine.losses import CrossEntropy
from engine.metrics import EpochMetrics
from experiments.analysis.test_set import AnalysisCollector
from experiments.report.text import escape_markdown
from experiments.runs import Experiment
from tests.engine.measured import make_loader
from tests.experiments.conftest import changed_config, small_settings
from tests.models.small_batch import small_model

pytestmark = pytest.mark.slow

SAMPLES = 5


def evaluate(name, kept, evaluations=1):
    evaluator = Evaluator(small_model(name), CrossEntropy(), EpochMetrics())
    with kept.attached(evaluator):
        for _ in range(evaluations):
            evaluator.evaluate(make_loader())
    return evaluator


def findings_of(kept):
    return kept.findings()


def test_one_evaluation_finds_vectors_weights_gate_and_heads():
    kept = AnalysisCollector()
    evaluate("tft", kept, evaluations=2)
    found = findings_of(kept)
    assert found.embedding.shape == (SAMPLES, 20)
    assert found.embedding_source == "embedding"
    assert [len(own) for own in found.scan_weights] == [5, 1, 2, 3, 1]
    assert found.gate.shape == (SAMPLES,)
    assert [tuple(head.shape) for head in found.heads] == [(SAMPLES, 2)] * 2


def test_what_a_model_does_not_have_is_none():
    kept = AnalysisCollector()
    evaluate("mean_linear", kept)
    found = kept.findings(calibration=None)
    assert (found.scan_weights, found.gate, found.heads) == (None, None, None)
    assert found.embedding is not None


def test_later_evaluations_are_not_kept():
    kept = AnalysisCollector()
    evaluator = evaluate("tft", kept)
    before = findings_of(kept)
    evaluator.evaluate(make_loader(seed=1))
    assert torch.equal(findings_of(kept).embedding, before.embedding)


RELOAD = '<meta http-equiv="refresh"'
PAGES = {
    "index.html",
    "training_curves.html",
    "evaluation_plots.html",
    "feature_importance.html",
    "shap_analysis.html",
    "pca_analysis.html",
    "attention_analysis.html",
}


@pytest.fixture(scope="module")
def finished(cohort_dir, tmp_path_factory):
    settings = small_settings(cohort_dir, tmp_path_factory.mktemp("runs"))
    changes = {"report.attribution.steps": 16, "ema.decay": 0.5}
    experiment = Experiment(changed_config(settings, **changes))
    experiment.run()
    return experiment


def test_the_tested_weights_are_explained(finished):
    found, outputs = finished.findings, finished.outputs["test"]
    (explained,) = found.explained
    assert explained.sample_id == outputs.sample_id
    assert explained.target.tolist() == outputs.predictions.tolist()
    assert len(found.embedding) == len(found.scan_weights) == len(outputs.sample_id)
    assert found.attention.samples == len(outputs.sample_id)
    # Contributions add up to the change of the score, which is that of the averaged weights alone.
    with finished.handlers.averaged_weights(), torch.no_grad():
        model = finished.trainer.model.eval()
        batch = next(iter(finished.data.loaders["test"]))
        none = torch.zeros_like(batch.spectra), torch.zeros_like(batch.tabular)
        scores = [
            model(spectra, batch.mask, tabular)["logits"]
            for spectra, tabular in ((batch.spectra, batch.tabular), none)
        ]
    odds = [score[:, 1] - score[:, 0] for score in scores]
    sign = 2 * explained.target - 1
    change = (odds[0] - odds[1]) * sign
    torch.testing.assert_close(explained.change, change, atol=1e-4, rtol=1e-4)


def test_attributions_and_named_pages_stand_in_the_report_folder(finished):
    folder = finished.run_dir / "report"
    assert {path.name for path in folder.iterdir()} >= PAGES
    saved = read_explained(folder / "attributions.safetensors")
    assert saved.sample_id == finished.findings.explained[0].sample_id
    assert "kaleido" in finished.note or (folder / "pca_analysis.png").is_file()


def test_what_the_audit_found_stands_on_the_page_and_in_the_card(finished):
    sentences = [found.sentence for found in finished.audit]
    assert sentences
    page = (finished.run_dir / "report" / "index.html").read_text("utf-8")
    card = (finished.run_dir / "model_card.md").read_text("utf-8")
    for sentence in sentences:
        assert sentence in html.unescape(page)
        assert escape_markdown(sentence) in card


def test_the_page_of_a_run_in_progress_reloads_itself(make_config):
    experiment = Experiment(make_config())
    seen: list[Any] = []
    experiment.setup()
    page = experiment.run_dir / "report" / "index.html"

    @experiment.trainer.on(Events.EPOCH_STARTED)
    def look(trainer):
        seen.append(page.read_text("utf-8") if page.is_file() else None)

    experiment.train()
    assert seen[0] is None
    for part in (RELOAD, "epoch 1 of 2", "Validation set."):
        assert part in seen[1]
    experiment.test()
    experiment.export()
    text = page.read_text("utf-8")
    assert RELOAD not in text
    assert "epoch 1 of 2" not in text


def test_without_pages_nothing_is_looked_at(make_config):
    experiment = Experiment(make_config(**{"report.enabled": False}))
    experiment.run()
    assert not experiment.findings.explained
    assert experiment.findings.attention is None
    assert experiment.findings.decisions  # they belong to the results, not to the pages
    assert not (experiment.run_dir / "report").exists()


def test_attributions_can_be_left_out_or_made_otherwise(make_config):
    plain = {"trainer.max_epochs": 1, "audit.enabled": False}
    experiment = Experiment(make_config(**plain, **{"report.attribution.method": None}))
    experiment.run()
    assert not experiment.findings.explained
    assert experiment.findings.embedding is not None
    assert "No attributions were computed." in (
        experiment.run_dir / "report" / "index.html"
    ).read_text("utf-8")
    other = Experiment(
        make_config(
            **{
                "exp_name": "other",
                "report.attribution": {"method": "gradient_shap", "max_samples": 3, "steps": 4},
            }
        )
    )
    other.setup()
    other.test()
    (explained,) = other.findings.explained
    assert (explained.method, len(explained.sample_id)) == ("gradient_shap", 3)


def test_an_unknown_method_is_refused_with_the_nearest(make_config):
    with pytest.raises(UsageError, match=r"report.attribution.method.*'integrated_gradients'"):
        make_config(**{"report.attribution.method": "integrated_gradient"})


def test_handlers_of_ones_own_can_look_at_the_test_side(make_config):
    experiment, seen = Experiment(make_config(**{"report.enabled": False})), []
    experiment.setup()

    @experiment.tester.on(Events.ITERATION_COMPLETED)
    def look(tester):
        seen.extend(tester.state.batch.sample_id)

    experiment.train()
    experiment.validate()
    assert seen == []
    experiment.test()
    assert seen == experiment.outputs["test"].sample_id
    rows = [json.loads(line) for line in (experiment.run_dir / "log.jsonl").open()]
    assert rows[-1]["event"] == "test_completed"
