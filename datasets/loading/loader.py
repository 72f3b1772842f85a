"""The data loader; its batches do not depend on the number of workers."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from datasets.batches import Sample, pad_collate
from datasets.loading.samplers import EpochBatchSampler, PlannedBatchSampler


def make_loader(
    dataset: Dataset[Sample],
    batch_size: int = 1,
    shuffle: bool = False,
    seed: int = 0,
    num_workers: int = 0,
    pin_memory: bool = False,
    drop_last: bool = False,
    sampler: PlannedBatchSampler | None = None,
    collate: Callable[[Sequence[Sample]], Any] = pad_collate,
) -> DataLoader[Any]:
    """Make a loader of batches of (epoch, index) keys' samples.

    Its ``batch_sampler`` is a :class:`~datasets.loading.PlannedBatchSampler`: call ``set_epoch``
    before each epoch, ``resume_at`` before one that continues. Iterating never draws from the
    global random number streams, so that evaluating more or less often changes no training.

    ``seed``, at least 0, is of the order; the dataset has its own for augmentation. The worker
    processes are kept from epoch to epoch; none is usually fastest where the transformed scans fit
    in memory. ``sampler`` replaces batch_size, shuffle and drop_last; of ``collate``,
    :func:`~datasets.batches.packed_collate` suits a GPU.
    """
    if sampler is None:
        sampler = EpochBatchSampler(len(dataset), batch_size, shuffle, seed, drop_last)  # type: ignore[arg-type]
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=pin_memory and torch.cuda.is_available(),
        worker_init_fn=start_worker,
        # Without its own generator, each iterator would draw from torch's global stream.
        generator=torch.Generator().manual_seed(seed),
    )


def stop_workers(loader: DataLoader[Any]) -> None:
    """End the loader's worker processes; the garbage collector would take 5 s for each of them."""
    loader._iterator = None


def start_worker(worker_id: int) -> None:
    """One thread for each worker, and signals left to the main process.

    A terminal signals every process: a worker that died of it would end the training before saving.
    """
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The main process ends its workers by SIGTERM, which they must obey. Where the system does not
    # name the sender (macOS, Windows), torch's own handling stays.
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_told, name="end-when-told", daemon=True).start()


def _end_when_told() -> None:
    """Wait for a SIGTERM of the main process; those of others have no effect."""
    main = multiprocessing.parent_process()
    while main is not None and signal.sigwaitinfo({signal.SIGTERM}).si_pid != main.pid:
        pass
    os._exit(0)
