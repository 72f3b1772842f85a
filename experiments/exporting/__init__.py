"""A trained model in a file for other programs: ONNX, torch.export or safetensors."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from experiments.exporting.export_file import Exported, export_model
    from experiments.exporting.formats import load_weights
    from experiments.exporting.trained_model import TrainedModel, load_trained
else:
    __getattr__ = lazy_exports(__name__, __file__)
