from __future__ import annotations

import pytest
import torch

from engine.prefetch import STEPS_AHEAD, DevicePrefetcher, prefetched
from tests.tiny_problem import TinyLoader

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
# About a tenth of a second of a GPU's time.
CLOCK_CYCLES = 200_000_000


def test_on_a_cpu_the_loader_is_left_as_it_is():
    loader = TinyLoader()
    assert prefetched(loader, torch.device("cpu")) is loader


class TestOnAGpu:
    pytestmark = needs_gpu

    def test_it_yields_the_same_batches_there(self):
        loader = TinyLoader(samples=23, batch_size=5)
        ahead = prefetched(loader, torch.device("cuda"))
        assert isinstance(ahead, DevicePrefetcher)
        assert len(ahead) == len(loader)
        found = list(ahead)
        assert len(found) == len(loader)
        for there, here in zip(found, loader, strict=True):
            assert there.spectra.device.type == "cuda"
            assert torch.equal(there.spectra.cpu(), here.spectra)
            assert torch.equal(there.target.cpu(), here.target)
            assert there.sample_id == here.sample_id

    def test_an_empty_loader_ends_at_once(self):
        assert list(DevicePrefetcher([], torch.device("cuda"))) == []

    def test_a_step_reads_its_own_batch_however_late_it_comes(self):
        """Memory is not used again while a step that waits on the GPU has still to read it."""
        loader = TinyLoader(samples=4096, batch_size=256)
        sums = []
        for batch in DevicePrefetcher(loader, torch.device("cuda")):
            torch.cuda._sleep(CLOCK_CYCLES // 10)
            sums.append(batch.spectra.double().sum())
            del batch
        wanted = [batch.spectra.double().sum() for batch in loader]
        torch.testing.assert_close(torch.stack(sums).cpu(), torch.stack(wanted))

    def test_no_more_steps_are_queued_than_were_agreed(self):
        began = []
        loader = TinyLoader(samples=8 * (STEPS_AHEAD + 3), batch_size=8)
        for _ in DevicePrefetcher(loader, torch.device("cuda")):
            torch.cuda._sleep(CLOCK_CYCLES)
            began.append(torch.cuda.Event())
            began[-1].record()
            undone = sum(not event.query() for event in began)
            assert undone <= STEPS_AHEAD + 1
