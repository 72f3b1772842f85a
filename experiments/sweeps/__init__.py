"""Search for settings: a study of trials, each of which is a run up to its validation."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from experiments.sweeps.search_space import SearchSpace, read_space
    from experiments.sweeps.sweep_run import run_sweep
else:
    __getattr__ = lazy_exports(__name__, __file__)
