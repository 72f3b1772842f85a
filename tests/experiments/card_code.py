"""What a model card says of loading the model, done as it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest


def predict_as_the_card_says(folder: Path, cohort: Path) -> tuple[Any, pd.DataFrame]:
    """The model that the card's code loads, and the table that it writes of a cohort."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "model_card.md").read_text(), re.DOTALL)
    loaded: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(code.replace("COHORT", str(cohort)), loaded)
    table = pd.read_csv(folder / "new_predictions.csv", dtype={"sample_id": str})
    return loaded["model"], table


def check_by_the_card(folder: Path, cohort: Path) -> Any:
    """The card's code gives the exported predictions; returns the model."""
    model, table = predict_as_the_card_says(folder, cohort)
    own = pd.read_csv(folder / "predictions.csv", dtype={"sample_id": str})
    again = table.set_index("sample_id").loc[own["sample_id"]].reset_index()
    assert len(own) > 5
    # Batches with other samples differ in the last digits.
    pd.testing.assert_frame_equal(again[own.columns], own, rtol=1e-4, atol=1e-5)
    return model
