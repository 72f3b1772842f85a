"""``cohort.yaml`` as its readers want it: every name, unit and licence is text, as written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

KEPT_TAGS = ("tag:yaml.org,2002:null", "tag:yaml.org,2002:merge")


class TextLoader(yaml.SafeLoader):
    """A safe loader to which 2024, 010, no and 2024-01-15 are text; only null is not."""


TextLoader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag in KEPT_TAGS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_cohort_yaml(path: Path) -> Any:
    """The content of a ``cohort.yaml``.

    Args:
        path: An existing file.

    Raises:
        OSError: It cannot be read.
        UnicodeDecodeError: It is not UTF-8.
        yaml.YAMLError: It is not YAML.
    """
    return yaml.load(path.read_text(encoding="utf-8"), TextLoader)
