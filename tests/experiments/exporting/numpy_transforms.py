"""Transforms written from their description alone, with NumPy: what a user of a file has to write.

Each takes scans [n, L], their axis [L], parameters and state. Those of the guide's program stand in
``docs/guide/export.md``.
"""

from __future__ import annotations

import math

import numpy as np

TINY = np.finfo(np.float32).tiny


def windows(x, half, fill="edge"):
    """[n, L, 2 * half + 1]: the points around each."""
    padded = np.pad(x, [(0, 0), (half, half)], mode=fill)
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1, axis=1)


def divide(x, divisor):
    return x / np.where(divisor < TINY, 1, divisor)


def crop(x, axis, params, state):
    low = -math.inf if params["low"] is None else params["low"]
    high = math.inf if params["high"] is None else params["high"]
    return x[:, (axis >= low) & (axis <= high)]


def vector(x, axis, params, state):
    return divide(x, np.sqrt(np.square(x, dtype=float).sum(-1, keepdims=True)))


def median(x, axis, params, state):
    sizes = np.abs(x)
    least = sizes.mean(-1, keepdims=True, dtype=float) / 1000
    return divide(x, np.maximum(np.median(sizes, axis=-1, keepdims=True), least))


def snip(x, axis, params, state):
    width = min(params["half_window"], (x.shape[1] - 1) // 2)
    steps = np.arange(x.shape[1])
    ends = []
    for part in (slice(None, width), slice(-width, None)):
        line = np.polyfit(steps[part], x[:, part].T.astype(float), 1)
        beyond = steps[part] + (-width if part.start is None else width)
        ends.append(line[0][:, None] * beyond + line[1][:, None])
    base = np.hstack([ends[0], x, ends[1]])
    for m in range(width, 0, -1):
        base[:, m:-m] = np.minimum(base[:, m:-m], (base[:, : -2 * m] + base[:, 2 * m :]) / 2)
    return x - base[:, width:-width]


def tophat(x, axis, params, state):
    half = params["half_window"]
    lowest = windows(x, half, "symmetric").min(-1)
    return x - windows(lowest, half, "symmetric").max(-1)


def savgol(x, axis, params, state):
    half, order = params["window"] // 2, params["order"]
    powers = np.vander(np.arange(-half, half + 1), order + 1, increasing=True)
    return windows(x, half) @ np.linalg.pinv(powers)[0]


def resample(x, axis, params, state):
    old = axis.astype(float)
    step = params["step"] or (old[-1] - old[0]) / (params["points"] - 1)
    count = params["points"] or math.floor((old[-1] - old[0]) / step + 1e-6) + 1
    new = np.minimum(old[0] + step * np.arange(count), old[-1])
    edges = np.concatenate([new[:1], (new[1:] + new[:-1]) / 2, new[-1:]])
    places = np.unique(np.concatenate([old, edges]))
    found = []
    for scan in x:
        line = np.interp(places, old, scan)
        area = np.append(0, np.cumsum(np.diff(places) * (line[1:] + line[:-1]) / 2))
        means = np.diff(np.interp(edges, places, area)) / np.diff(edges)
        spacing = np.diff(old)[np.clip(np.searchsorted(old, new, "right") - 1, 0, len(old) - 2)]
        closer = step <= spacing * (1 + 1e-6)
        found.append(np.where(closer, np.interp(new, old, scan), means))
    return np.array(found)


def pick_peaks(x, axis, params, state):
    above = x - np.median(x, axis=-1, keepdims=True)
    noise = 1.4826 * np.median(np.abs(above), axis=-1, keepdims=True)
    top = x == windows(x, params["half_window"], "symmetric").max(-1)
    top &= above > params["snr"] * noise
    top[:, 1:] &= x[:, 1:] > x[:, :-1]
    top[:, 0] = top[:, -1] = False
    kept = windows(top, params["width"], "constant").any(-1)
    return np.where(kept, x, 0)


def asls(x, axis, params, state):
    """As in the paper; weights change by less than a thousandth at the end."""
    points = x.shape[1]
    second = np.diff(np.eye(points), 2, axis=0)
    smooth = params["lam"] * second.T @ second
    found = []
    for scan in x.astype(float):
        weights = np.ones(points)
        for _ in range(params["max_iter"] + 1):
            base = np.linalg.solve(np.diag(weights) + smooth, weights * scan)
            new = np.where(scan > base, params["p"], 1 - params["p"])
            change = np.linalg.norm(new - weights) / np.linalg.norm(weights)
            if change < 1e-3:
                break
            weights = new
        found.append(scan - base)
    return np.array(found)


STEPS = {
    f.__name__: f for f in (crop, vector, median, snip, tophat, savgol, resample, pick_peaks, asls)
}
