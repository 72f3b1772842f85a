from __future__ import annotations

from torch import nn

from engine.distributed.block_structure import repeated_blocks


def test_they_are_those_of_one_class_that_stand_in_one_list():
    blocks = nn.ModuleList(nn.Linear(2, 2) for _ in range(2))
    model = nn.Sequential(blocks, nn.Linear(2, 2))
    assert repeated_blocks(model) == list(blocks)


def test_a_model_without_lists_has_none():
    assert repeated_blocks(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))) == []


def test_outer_blocks_stand_before_those_within_them():
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.ModuleList(nn.Linear(2, 2) for _ in range(2))

    first, second = Outer(), Outer()
    found = repeated_blocks(nn.Sequential(nn.ModuleList([first, second])))
    assert found == [first, second, *first.inner, *second.inner]
