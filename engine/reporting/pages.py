"""What every interactive page shares: it opens from the disk and asks the network for nothing."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2
    from markupsafe import Markup

# Plotly's own tool bar would offer to upload the chart; these may be patients' data.
PLOTLY_CONFIG: dict[str, Any] = {
    "showSendToCloud": False,
    "plotlyServerURL": "",
    "modeBarButtonsToRemove": ["sendChartToCloud"],
    "displaylogo": False,
    "responsive": True,
}


# The libraries are imported where a page is written: a run that fails early should not wait.
@functools.cache
def page_template(path: Path) -> jinja2.Template:
    """Read a page's Jinja2 template, which escapes whatever it is given.

    Args:
        path: The template's file.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(path.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(path.name)


@functools.cache
def plotly_js() -> Markup:
    """The plotting library as text that can stand inside a script element."""
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    # </script> inside the library's own strings would end the element early.
    return Markup(get_plotlyjs().replace("</script", "<\\/script"))
