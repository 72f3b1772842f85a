"""Collectives over processes, sharded weights, and consensus on when to stop."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from engine.distributed.collectives import (
        BACKENDS,
        PEER_LOST,
        PeerLostError,
        StopConsensus,
        all_reduce_max,
        alone,
        barrier,
        broadcast_,
        broadcast_from_main,
        gather,
        interleave,
        is_main_process,
        main_process_first,
        mean_,
        peer_failure,
        raise_on_all_ranks,
        rank,
        sum_,
        world_size,
    )
    from engine.distributed.replicas import Replicas
    from engine.distributed.sharding import (
        full_state,
        is_sharded,
        joint_norm,
        map_tensors,
        optimizer_shares,
        repeated_blocks,
        require_unsharded,
        shard,
        shares_of,
        to_local,
    )
else:
    __getattr__ = lazy_exports(__name__, __file__)
