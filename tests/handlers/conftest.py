"""The tiny problem lives in tests/tiny_problem.py, its fixtures in tests/conftest.py."""

from tests.tiny_problem import TinyBatch, TinyLoader, TinyModel

__all__ = ["TinyBatch", "TinyLoader", "TinyModel"]
