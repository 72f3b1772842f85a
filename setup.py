"""How a wheel differs from a checkout; everything else about the project is in setup.cfg.

In a checkout the packages are called ``datasets``, ``engine``, ``models``. Other distributions
have packages of these names. A wheel therefore holds them within ``scanfire``:
``scanfire.datasets``. The names in its files are changed while it is built. An editable install
keeps the short names.
"""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

ROOT = Path(__file__).parent
FLOORS = ("datasets", "engine", "experiments", "handlers", "models", "trainers")
# They start the commands of a checkout.
LEFT_OUT = ("experiments.benchmarks*",)
PACKAGES = find_packages(
    str(ROOT), include=[name for f in FLOORS for name in (f, f"{f}.*")], exclude=LEFT_OUT
)

OURS = "|".join(FLOORS)
# Where a line imports, also in an example in a docstring; and a quoted dotted path.
IMPORT = re.compile(
    rf"^(\s*(?:>>> |\.\.\. )?)(from (?=[\w.]+ import )|import (?=[\w.]+ as ))((?:{OURS})\b)",
    re.MULTILINE,
)
QUOTED = re.compile(rf"""(["'])((?:{OURS})(?:\.\w+)+)\1""")
TEXTS = (".py", ".j2")


def within_scanfire(text: str) -> str:
    """The text of a file with the names that the packages have in a wheel."""
    text = IMPORT.sub(r"\1\2scanfire.\3", text)
    return QUOTED.sub(lambda found: _quoted(*found.groups()), text)


def _quoted(quote: str, name: str) -> str:
    """A quoted dotted path; another text, such as a name of a file's format, stays."""
    module = ROOT.joinpath(*name.split("."))
    places = (module, module.parent)
    is_ours = any(place.is_dir() or place.with_suffix(".py").is_file() for place in places)
    return f"{quote}{'scanfire.' if is_ours else ''}{name}{quote}"


class BuildWithin(build_py):
    """Copies the packages, those of a wheel with changed names."""

    def run(self) -> None:
        """Build; what an earlier build has left must not get into a wheel."""
        if not self.editable_mode:
            shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()
        if not self.editable_mode:
            for path in Path(self.build_lib, "scanfire").rglob("*"):
                if path.suffix in TEXTS:
                    path.write_text(within_scanfire(path.read_text("utf-8")), "utf-8")


class EditableShort(editable_wheel):
    """Installs a checkout with the names that it has."""

    def finalize_options(self) -> None:
        """Name the packages as the checkout does."""
        self.distribution.packages = ["scanfire", *PACKAGES]
        self.distribution.package_dir = {}
        super().finalize_options()


setup(
    packages=["scanfire", *(f"scanfire.{name}" for name in PACKAGES)],
    package_dir={f"scanfire.{floor}": floor for floor in FLOORS},
    cmdclass={"build_py": BuildWithin, "editable_wheel": EditableShort},
)
