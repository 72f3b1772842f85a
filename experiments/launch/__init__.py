"""Runs by several processes, and the environment that they run in."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from experiments.launch.context import LaunchContext, begun_run, current_launch, quiet_others
    from experiments.launch.environment import REQUIREMENTS, describe_environment
    from experiments.launch.process_group import (
        PEER_LOST_CODE,
        check_alike,
        describe_group,
        joined,
        own_device,
        replica_devices,
        run_job_command,
        tell_group,
    )
else:
    __getattr__ = lazy_exports(__name__, __file__)
