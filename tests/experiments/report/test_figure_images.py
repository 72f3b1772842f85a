from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from types import SimpleNamespace

import plotly.graph_objects as go
import pytest
from PIL import Image
from plotly.subplots import make_subplots

from experiments.report.result_pages import SCALE, WIDTH, write_images

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


def written(monkeypatch, wanted, colours):
    """The figures that a browser is given, each of which it draws in one colour."""
    orders = []

    def write(given, **_):
        orders.extend(given)
        for order, colour in zip(given, colours, strict=True):
            size = (order["opts"]["width"], int(order["opts"]["height"]))
            Image.new("RGB", size, colour).save(order["path"])

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    monkeypatch.setitem(sys.modules, "kaleido", SimpleNamespace(write_fig_from_object_sync=write))
    assert write_images(wanted) is None
    return [order["fig"]["layout"] for order in orders]


def test_figures_of_a_file_stand_below_each_other(tmp_path, monkeypatch):
    path, alone = tmp_path / "a.png", go.Figure(go.Scatter(y=[1], name="alone"))
    layouts = written(monkeypatch, {path: [panels(), alone]}, ["red", "blue"])
    image = Image.open(path)
    assert image.size == (WIDTH, sum(layout["height"] for layout in layouts))
    assert image.getpixel((5, 5)) == (255, 0, 0)
    assert image.getpixel((5, layouts[0]["height"] + 5)) == (0, 0, 255)
    assert all(layout["legend"]["y"] < 0 for layout in layouts)


def test_menus_are_left_out_and_the_figures_stay_as_they_are(tmp_path, monkeypatch):
    own = panels()
    own.update_layout(updatemenus=[{"buttons": [{"label": "one", "method": "update"}]}])
    before = json.loads(own.to_json())
    (layout,) = written(monkeypatch, {tmp_path / "a.png": [own]}, ["red"])
    assert not layout.get("updatemenus")
    assert json.loads(own.to_json()) == before


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
