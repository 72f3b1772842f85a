"""A first configuration for a cohort: columns, classes and axis are looked at, and guessed."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from experiments.first_config.first_config import FirstConfig, look_at
    from experiments.first_config.tables import cohort_of
else:
    __getattr__ = lazy_exports(__name__, __file__)
