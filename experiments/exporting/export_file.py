"""Write a trained model in one of the formats, checked against the model itself."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from datasets.errors import UsageError, file_errors
from datasets.specs import require_choice
from experiments.exporting.description import describe
from experiments.exporting.formats import FORMATS, require_onnx
from experiments.exporting.graph import COVARIATES, MASK, SPECTRA, trace
from experiments.exporting.parity import (
    TOLERANCE,
    largest_difference,
    make_batches,
    own_outputs,
    rows_of,
)

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

    from experiments.exporting.trained_model import TrainedModel

BESIDE = ".json"


class Exported(NamedTuple):
    """A written file, its description beside it, and how it was checked."""

    file: Path
    description: Path
    difference: float
    rows: str
    inputs: dict[str, str]
    runtime: str

    def lines(self) -> list[str]:
        """Printed lines."""
        told = [f"{name} {shape}" for name, shape in self.inputs.items()]
        return [
            f"wrote  {self.file} ({self.file.stat().st_size / 2**20:.1f} MiB)",
            f"       {self.description}: inputs, preprocessing, outputs, members",
            f"parity: outputs differ by at most {self.difference:.1e} of max(1, |output|) "
            f"({TOLERANCE:.0e} is allowed) on {self.rows}; run by {self.runtime}",
            f"feed   {', '.join(told)}: preprocessed as the description tells",
        ]


def export_model(trained: TrainedModel, kind: str, out: Path | None = None) -> Exported:
    """Write ``out`` and ``out.json``, by default in the run's folder; nothing is overwritten.

    The file is run on rows of the run's cohort before it gets its name. UsageError where its
    outputs are not the model's.
    """
    chosen = FORMATS[require_choice("format", kind, FORMATS)]
    path = out or trained.folder / f"{trained.name}{chosen.suffix}"
    beside = path.with_name(path.name + BESIDE)
    named = next((name for name, each in FORMATS.items() if each.suffix == path.suffix), kind)
    if named != kind:
        raise UsageError(
            f"--out {path}: {path.suffix} is the suffix of --format {named}, not {kind}"
        )
    for there in (path, beside):
        if there.exists():
            raise UsageError(f"{there} exists and is left as it is: name another file by --out")
    if kind == "onnx":
        require_onnx()
    source: ExportedProgram | nn.Module = trained.model
    inputs = [SPECTRA, MASK, COVARIATES]
    if chosen.of_graph:
        source = trace(trained)
        inputs = [str(name) for name in source.graph_signature.user_inputs]
    description = describe(trained, kind, inputs)
    rows = rows_of(trained)
    batches = make_batches(rows)
    own = own_outputs(trained, batches)
    with file_errors(f"cannot write {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder, so that a file gets its name only as a whole.
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
            file = Path(folder) / path.name
            chosen.write(source, json.dumps(description), file)
            given = [{name: batch[name] for name in inputs} for batch in batches]
            difference = largest_difference(own, chosen.run(file, given))
            description["parity"] = {
                "largest_difference": difference,
                "tolerance": TOLERANCE,
                "relative_to": "max(1, |output|)",
                "rows": rows.source,
                "shapes": [list(batch[MASK].shape) for batch in batches],
            }
            told = file.with_name(beside.name)
            text = json.dumps(description, indent=1, ensure_ascii=False) + "\n"
            told.write_text(text, encoding="utf-8")
            os.rename(told, beside)
            os.rename(file, path)
    shapes = {
        name: f"{about['type']} [{', '.join(map(str, about['shape']))}]"
        for name, about in description["inputs"].items()
    }
    return Exported(path, beside, difference, rows.source, shapes, chosen.runtime)
