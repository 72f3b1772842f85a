"""EnhancedTrainer: training, evaluation and comparison from Python."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from experiments.enhanced_trainer.any_loader import AnyLoader
    from experiments.enhanced_trainer.default_training import Names, find_task
    from experiments.enhanced_trainer.evaluation import look_at_model
    from experiments.enhanced_trainer.trainer import EnhancedTrainer
else:
    __getattr__ = lazy_exports(__name__, __file__)
