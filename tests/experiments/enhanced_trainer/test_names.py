from __future__ import annotations

import pytest
import torch

from datasets.errors import UsageError
from experiments.enhanced_trainer.any_loader import AnyLoader
from experiments.enhanced_trainer.names import Names
from tests.experiments.report.made_outputs import make_outputs


def test_as_many_names_as_things_are_needed():
    torch.manual_seed(0)
    batch = AnyLoader([(torch.ones(2, 1, 5), None, torch.ones(2, 3), [0, 1])], "x").first()
    Names(["a", "b"], ["x", "y", "z"], torch.arange(5).numpy()).check(2, batch)
    for names, words in (
        (Names(classes=["a"]), "class_names: 1 given, but there are 2"),
        (Names(covariates=["x"]), "covariate_names: 1 given, but there are 3"),
        (Names(axis=torch.arange(4).numpy()), "axis: 4 given, but there are 5"),
    ):
        with pytest.raises(UsageError, match=words):
            names.check(2, batch)


def test_outputs_without_names_have_their_numbers():
    assert Names().of_outputs(make_outputs("multilabel")) == ["label 0", "label 1", "label 2"]
    assert Names(["no", "yes"]).of_outputs(make_outputs("binary")) == ["no", "yes"]
