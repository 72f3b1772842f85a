"""``from trainers.enhanced_trainer import EnhancedTrainer``: another name of the same class."""

from experiments.enhanced_trainer import EnhancedTrainer

__all__ = ["EnhancedTrainer"]
