"""Environments that take a disturbance, and the layer that runs many of them.

The protocol, the batch layer and these environments import no simulator; the physics of robots
lives in `hinf_rl.envs.physics` and `hinf_rl.envs.legged`.
"""

from hinf_rl.envs.api import DisturbanceSpec, Env, EnvSpec, Mirror, State
from hinf_rl.envs.batch import BatchEnv, BatchState, Step
from hinf_rl.envs.classic import CartPole, CartPoleConfig, Pendulum, PendulumConfig
from hinf_rl.envs.probe import PROBES, Probe
from hinf_rl.envs.wrappers import ActionDisturbanceWrapper, HistoryWrapper

__all__ = [
    "PROBES",
    "ActionDisturbanceWrapper",
    "BatchEnv",
    "BatchState",
    "CartPole",
    "CartPoleConfig",
    "DisturbanceSpec",
    "Env",
    "EnvSpec",
    "HistoryWrapper",
    "Mirror",
    "Pendulum",
    "PendulumConfig",
    "Probe",
    "State",
    "Step",
]
