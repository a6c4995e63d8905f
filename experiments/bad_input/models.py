"""Wrong models and environments, given to the public interface."""

# MuJoCo's compiled module carries no types.
# pyright: reportAttributeAccessIssue=false

import dataclasses

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from hinf_rl.agents.hinf import make
from hinf_rl.agents.hinf.config import DisturbanceConfig, HinfConfig
from hinf_rl.envs.batch import BatchEnv
from hinf_rl.envs.legged.mjcf import build_mjcf
from hinf_rl.envs.legged.robots import get_robot
from hinf_rl.envs.lq import LQEnv
from hinf_rl.envs.physics.api import ModelField
from hinf_rl.envs.physics.native import NativePhysics
from hinf_rl.envs.probe import PROBES
from hinf_rl.envs.wrappers import HistoryWrapper
from hinf_rl.ops.linear_system import SYSTEMS, LinearSystem

_BALL = """<mujoco><worldbody><body name="ball"><freejoint/><geom size="0.1"/></body></worldbody>
</mujoco>"""
_MUSCLE = """<mujoco><worldbody><body><joint name="hinge" range="-1 1"/><geom size="0.1"/></body>
</worldbody><actuator><muscle joint="hinge" lengthrange="0 1"/></actuator></mujoco>"""


def _system(**matrices: np.ndarray) -> LinearSystem:
    return dataclasses.replace(SYSTEMS["S2"], **matrices)


def wide_dynamics() -> object:
    return _system(A=np.ones((2, 3)))


def indefinite_weight() -> object:
    return _system(Q=np.diag([1.0, -1.0]))


def singular_weight() -> object:
    return _system(R=np.zeros((1, 1)))


def nan_input() -> object:
    return _system(B=np.full((2, 1), np.nan))


def negative_spread() -> object:
    return LQEnv(SYSTEMS["S2"], initial_std=-1.0)


def no_disturbance() -> object:
    return make(HinfConfig(), PROBES["action_reward"])


def no_mirror() -> object:
    return make(HinfConfig(symmetry="augment"), LQEnv(SYSTEMS["S2"]))


def no_bound() -> object:
    return make(HinfConfig(disturbance=DisturbanceConfig(source="random")), LQEnv(SYSTEMS["S2"]))


def no_instances() -> object:
    return BatchEnv(LQEnv(SYSTEMS["S2"]), 0)


def wide_action() -> object:
    batch = BatchEnv(LQEnv(SYSTEMS["S2"]), 2)
    return batch.step(batch.reset(jax.random.key(0)), jnp.zeros((2, 3), jnp.float32))


def no_history() -> object:
    return HistoryWrapper(LQEnv(SYSTEMS["S2"]), 0)


def unknown_body() -> object:
    return NativePhysics(_ball(), force_body="tail")


def unknown_field() -> object:
    return NativePhysics(_ball(), fields=[ModelField("body_mas", (1,))])


def wrong_index() -> object:
    return NativePhysics(_ball(), fields=[ModelField("body_mass", (99,))])


def hidden_state() -> object:
    return NativePhysics(mujoco.MjModel.from_xml_string(_MUSCLE))


def no_timestep() -> object:
    return build_mjcf(get_robot("aliengo"), timestep=0.0)


def _ball() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(_BALL)
