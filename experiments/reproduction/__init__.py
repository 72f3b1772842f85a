"""A packaged run made again, and what differs."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from experiments.reproduction.differences import Difference, compare_folders
    from experiments.reproduction.run_again import reproduce
else:
    __getattr__ = lazy_exports(__name__, __file__)
