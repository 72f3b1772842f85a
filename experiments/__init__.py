"""Composition root: configuration, command lines, stages and pages."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.enhanced_trainer import EnhancedTrainer

__all__ = ["EnhancedTrainer"]


def __getattr__(name: str) -> Any:
    # On demand: a command line that does not train through it should not wait for its libraries.
    if name in __all__:
        from experiments.enhanced_trainer import EnhancedTrainer

        return EnhancedTrainer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
