"""Run an ONNX file by onnxruntime and NumPy alone: ``python onnx_alone.py MODEL INPUTS OUTPUTS``.

``INPUTS`` is a .npz file of arrays named ``<batch>/<input>``; ``OUTPUTS`` is written alike.
"""

import sys

import numpy as np
import onnxruntime


def main(model: str, inputs: str, outputs: str) -> None:
    """Write each batch's outputs; RuntimeError where torch was imported on the way."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    batches: dict[str, dict[str, np.ndarray]] = {}
    with np.load(inputs) as arrays:
        for key in arrays.files:
            batch, _, name = key.partition("/")
            batches.setdefault(batch, {})[name] = arrays[key]
    found = {
        f"{batch}/{name}": values
        for batch, arrays in batches.items()
        for name, values in zip(names, session.run(names, arrays), strict=True)
    }
    if "torch" in sys.modules:
        raise RuntimeError("torch was imported")
    np.savez(outputs, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
