"""What a user's own model may return beside its logits, in a whole run."""

from __future__ import annotations

import pytest
from torch import nn

from datasets.errors import UsageError
from experiments.runs import Experiment

pytestmark = pytest.mark.slow


class Own(nn.Module):
    """Logits from the covariates, and what else a model may return."""

    def __init__(self, tab_dim: int, num_classes: int, returns: str = "tensor") -> None:
        super().__init__()
        self.head = nn.Linear(tab_dim, num_classes)
        self.returns = returns

    def forward(self, spectra, mask, tabular):
        weights = mask / mask.sum(dim=1, keepdim=True)
        logits = self.head(tabular)
        others = {
            "tensor": {"attention_weights": weights, "embedding": None},
            "list": {"attention_weights": [weights, None], "spec_embedding": logits},
            "array": {"attention_weights": weights.detach().numpy()},
            "mean": {"attention_weights": {"scans": weights.mean(dim=0)}},
            "flat": {"embedding": logits[:, 0]},
            "one": {"tab_embedding": logits.mean(dim=0, keepdim=True)},
        }
        return {"logits": logits, **others[self.returns]}


def config_of(make_config, returns):
    own = {"model": {"name": f"{__name__}.Own", "params": {"returns": returns}}}
    return make_config(**own, **{"trainer.max_epochs": 1, "report.resamples": 0})


@pytest.mark.parametrize("returns", ["tensor", "list"])
def test_a_run_shows_optional_outputs_of_every_documented_form(make_config, returns):
    experiment = Experiment(config_of(make_config, returns))
    experiment.run()
    scans = experiment.findings.scan_weights
    assert scans is not None
    assert all(own.sum() == pytest.approx(1) for own in scans)
    source = {"tensor": "logits", "list": "spec_embedding"}[returns]
    assert experiment.findings.embedding_source == source
    page = (experiment.run_dir / "report" / "evaluation_plots.html").read_text("utf-8")
    for section in ("thresholds", "tsne", "scans-0"):
        assert f'<section id="{section}">' in page


@pytest.mark.parametrize(
    ("returns", "words"),
    [
        ("array", "attention_weights as ndarray, expected a dict of tensors"),
        ("mean", r"attention_weights\['scans'\] of shape"),
        ("flat", r"embedding of shape \[2\], expected \[B, E\] = \[2, E\]"),
        ("one", r"tab_embedding of shape \[1, 2\]"),
    ],
)
def test_other_optional_outputs_are_refused_before_training(make_config, returns, words):
    config = config_of(make_config, returns)
    with pytest.raises(UsageError, match=f"model Own gives {words}"):
        Experiment(config).run()
    assert not config.runs_dir.exists() or not list(config.runs_dir.iterdir())
