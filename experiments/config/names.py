"""Names and files of configurations, without what reads them."""

from collections.abc import Container
from pathlib import Path

from datasets.errors import UsageError, nearest
from datasets.paths import as_path

CONFIGS = Path(__file__).parents[1] / "configs"
SUFFIXES = (".yaml", ".yml", ".json")


def config_names() -> list[str]:
    """The names of the configurations that come with the project."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def find_config(source: str) -> Path:
    """The file of a configuration's name, or the file itself."""
    file = as_path(source)
    if file.suffix in SUFFIXES:
        if not file.is_file():
            siblings = [str(p) for p in file.parent.glob("*") if p.suffix in SUFFIXES]
            raise UsageError(
                f"configuration file {source} does not exist{nearest(source, siblings)}"
            )
        return file
    path = CONFIGS / f"{source}.yaml"
    if not path.is_file():
        raise UsageError(f"no configuration is called '{source}'{nearest(source, config_names())}")
    return path


def section_names() -> Container[str]:
    """The keys at the top of a configuration; not before they are needed, as pydantic is slow."""
    from experiments.config.schema import Config

    return Config.model_fields
