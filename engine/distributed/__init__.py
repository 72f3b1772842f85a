"""Collectives over processes, sharded weights, and consensus on when to stop."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from engine.distributed.block_structure import repeated_blocks
    from engine.distributed.collectives import (
        BACKENDS,
        PEER_LOST,
        PeerLostError,
        alone,
        any_process,
        barrier,
        broadcast_,
        fail_together,
        first_then_others,
        from_first,
        gather,
        interleave,
        is_first,
        largest_,
        mean_,
        peer_failure,
        rank,
        sum_,
        world,
    )
    from engine.distributed.replicas import Replicas
    from engine.distributed.sharding import (
        is_sharded,
        joint_norm,
        optimizer_shares,
        own_parts,
        refuse_shares,
        shard,
        shares_of,
        whole,
    )
    from engine.distributed.stop_consensus import RollCall
else:
    __getattr__ = lazy_exports(__name__, __file__)
