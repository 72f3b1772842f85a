"""Transformed scans kept on disk under the fingerprint of their transforms."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from datasets.transform_cache.cache import GIB, NoRoomError, TransformedScans, transformed_scans
else:
    __getattr__ = lazy_exports(__name__, __file__)
