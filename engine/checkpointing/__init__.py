"""Checkpoint files, random number states, snapshots and determinism."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from engine.checkpointing.checkpoint_files import (
        LAST_NAME,
        CheckpointError,
        broken_weight,
        check_meta,
        load_checkpoint,
        newest_whole_checkpoint,
        pack_checkpoint,
        save_checkpoint,
    )
    from engine.checkpointing.finite_check import FiniteCheck, Snapshot
    from engine.checkpointing.process_states import OTHERS, capture_all, restore_all
    from engine.checkpointing.reproducibility import (
        WORKSPACE,
        capture_rng,
        deterministic_algorithms,
        prepare_cublas,
        preserve_rng_state,
        restore_rng,
        seed_apart,
    )
else:
    __getattr__ = lazy_exports(__name__, __file__)
