from __future__ import annotations

import io
import random

import numpy as np
import torch

from engine.checkpointing.rng import capture_rng, restore_rng, seed_apart, seed_everything


def draw():
    return random.random(), np.random.normal(), np.random.rand(), torch.rand(1).item()


def test_all_streams_continue_where_they_were_also_through_a_file():
    seed_everything(4)
    draw()
    file = io.BytesIO()
    torch.save(capture_rng(), file)
    expected = draw()
    seed_everything(99)
    file.seek(0)
    restore_rng(torch.load(file, weights_only=True))
    assert draw() == expected


def test_seeding_makes_all_streams_repeat():
    seed_everything(7)
    first = draw()
    seed_everything(7)
    assert draw() == first


def test_processes_that_were_seeded_alike_draw_differently_and_the_same_each_time():
    drawn = []
    for rank in (1, 2, 1):
        seed_everything(7)
        seed_apart(rank)
        drawn.append(draw())
    assert drawn[0] == drawn[2]
    assert all(one != other for one, other in zip(drawn[0], drawn[1], strict=True))
