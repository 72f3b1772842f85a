from __future__ import annotations

import importlib.util
import shutil

import plotly.graph_objects as go
import pytest
from plotly.subplots import make_subplots

from experiments.report.figure_images import SCALE, WIDTH, stack, write_images

CHROME = shutil.which("chromium") or shutil.which("google-chrome")


def panels() -> go.Figure:
    """Two panels side by side with titles, two named lines and a colour scale."""
    figure = make_subplots(1, 2, subplot_titles=["left", "right"])
    figure.add_scatter(y=[1, 2], name="a", row=1, col=1)
    figure.add_heatmap(z=[[1, 2]], coloraxis="coloraxis", row=1, col=2)
    figure.add_scatter(y=[3, 1], name="b", row=1, col=1)
    figure.add_hline(y=1, row=1, col=1)
    figure.update_layout(height=300, coloraxis={"colorbar": {"title": "w"}})
    return figure


def test_stacked_figures_keep_axes_of_their_own_below_each_other():
    plain = stack([panels(), go.Figure(go.Scatter(y=[1])), panels()]).to_plotly_json()
    layout = plain["layout"]
    used = [trace["yaxis"] for trace in plain["data"]]
    assert used == ["y", "y2", "y", "y3", "y4", "y5", "y4"]
    low, high = {}, {}
    for name in ("yaxis", "yaxis2", "yaxis3", "yaxis4", "yaxis5"):
        low[name], high[name] = layout[name]["domain"]
        assert 0 <= low[name] < high[name] <= 1
    assert low["yaxis"] > high["yaxis3"]
    assert low["yaxis3"] > high["yaxis4"]
    assert layout["xaxis4"]["anchor"] == "y4"


def test_titles_lines_and_colour_scales_go_with_their_figure():
    figure = stack([panels(), panels()])
    titles = [note for note in figure.layout.annotations if note.text == "left"]
    assert titles[0].y > figure.layout.yaxis.domain[0] > titles[1].y
    assert [shape.yref for shape in figure.layout.shapes] == ["y", "y3"]
    assert [t.coloraxis for t in figure.data if t.type == "heatmap"] == ["coloraxis", "coloraxis2"]
    bars = figure.layout.coloraxis.colorbar, figure.layout.coloraxis2.colorbar
    assert bars[0].y > bars[1].y


def test_each_figure_has_its_own_legend_and_a_single_line_none():
    figure = stack([panels(), go.Figure(go.Scatter(y=[1], name="alone"))])
    legends = {trace.name: trace.legend for trace in figure.data if trace.name}
    assert legends == {"a": "legend", "b": "legend", "alone": "legend2"}
    assert [t.showlegend for t in figure.data if t.name == "alone"] == [False]


def test_stacking_leaves_the_figures_as_they_are():
    own = panels()
    before = own.to_json()
    stack([own, own])
    assert own.to_json() == before


def test_without_the_package_it_is_said_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    reason = write_images({tmp_path / "a.png": [panels()]})
    assert reason is not None
    assert "pip install 'scanfire[png]'" in reason
    assert list(tmp_path.iterdir()) == []


def test_a_browser_that_is_missing_is_said_in_a_line(tmp_path, monkeypatch):
    kaleido = pytest.importorskip("kaleido")

    def fail(*args, **kwargs):
        raise RuntimeError("Kaleido requires\nGoogle Chrome")

    monkeypatch.setattr(kaleido, "write_fig_from_object_sync", fail)
    reason = write_images({tmp_path / "a.png": [panels()]})
    assert reason == "no PNG files beside the pages: Kaleido requires Google Chrome"


@pytest.mark.browser
@pytest.mark.skipif(CHROME is None, reason="no Chromium or Chrome on this machine")
def test_images_are_as_large_as_their_figures_together(tmp_path):
    pytest.importorskip("kaleido")
    wanted = {tmp_path / "one.png": [panels()], tmp_path / "two.png": [panels(), panels()]}
    assert write_images({**wanted, tmp_path / "none.png": []}) is None
    sizes = {}
    for path in wanted:
        header = path.read_bytes()[:24]
        assert header.startswith(b"\x89PNG")
        sizes[path.name] = tuple(int.from_bytes(header[i : i + 4], "big") for i in (16, 20))
    assert sizes["one.png"][0] == sizes["two.png"][0] == WIDTH * SCALE
    assert sizes["two.png"][1] == 2 * sizes["one.png"][1]
    assert not (tmp_path / "none.png").exists()
