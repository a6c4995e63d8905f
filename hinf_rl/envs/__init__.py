"""Environments that take a disturbance, and the layer that runs many of them.

The protocol and the batch layer import no simulator; the physics of robots lives in
`hinf_rl.envs.physics` and `hinf_rl.envs.legged`.
"""

from hinf_rl.envs.api import DisturbanceSpec, Env, EnvSpec, Mirror, State
from hinf_rl.envs.batch import BatchEnv, BatchState, Step

__all__ = [
    "BatchEnv",
    "BatchState",
    "DisturbanceSpec",
    "Env",
    "EnvSpec",
    "Mirror",
    "State",
    "Step",
]
