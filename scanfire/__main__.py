"""The command ``scanfire``, also as ``python -m scanfire``."""

import sys
from pathlib import Path

# In a checkout it is put where its packages are found first; a user's own modules come last.
import scanfire  # noqa: F401


def main() -> int:
    """Run the command line; returns the exit code."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    from experiments.commands import main as run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
