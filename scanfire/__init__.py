"""The name under which the project is installed: ``scanfire.engine``, ``scanfire.models``.

In a wheel its packages are in this folder. In a checkout they are beside it, under short names, and
``scanfire.engine`` is another name of ``engine``.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType

FLOORS = ("datasets", "engine", "experiments", "handlers", "models", "trainers")
# Of a checkout; None in a wheel.
CHECKOUT = None if Path(__file__).with_name("engine").is_dir() else Path(__file__).parents[1]


class OtherNames:
    """Finds and loads ``scanfire.engine.steps`` as the module ``engine.steps``."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Answer for the packages of this project alone."""
        package, _, inner = name.partition(".")
        own = package == __name__ and inner.partition(".")[0] in FLOORS
        return spec_from_loader(name, self) if own else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Import the module by its own name; ImportError where that is another project's."""
        name = spec.name.partition(".")[2]
        first = import_module(name.partition(".")[0])
        folder = Path(first.__file__ or "").resolve().parent
        if CHECKOUT is None or folder.parent != CHECKOUT.resolve():
            raise ImportError(
                f"`{first.__name__}` is {folder} here, not {CHECKOUT}'s: import scanfire first, or "
                f"install it as a wheel, which does not use this name (pip install {CHECKOUT})"
            )
        module = import_module(name)
        self._specs[spec.name] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Leave the module as its own import has made it."""
        module.__spec__ = self._specs.pop(f"{__name__}.{module.__name__}")

    def __init__(self) -> None:
        self._specs: dict[str, ModuleSpec | None] = {}


if CHECKOUT is not None:
    # Before every other finder: they would load the file a second time.
    sys.meta_path.insert(0, OtherNames())  # type: ignore[arg-type]
    # Another distribution's `datasets` must not be found instead.
    if sys.path[:1] != [str(CHECKOUT)]:
        sys.path.insert(0, str(CHECKOUT))
