"""Per-episode physics parameters and starting motion of a quadruped."""

# MuJoCo's compiled module carries no types.
# pyright: reportAttributeAccessIssue=false

from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from hinf_rl.envs.legged.config import RandomisationConfig, VelocityConfig
from hinf_rl.envs.legged.kinematics import leg_kinematics
from hinf_rl.envs.legged.robots import LEGS, QuadrupedSpec
from hinf_rl.envs.physics.api import ModelField
from hinf_rl.types import Array

FRICTION = slice(4, 8)
"""Where `model_fields` have the friction of the feet."""
# Gap (m) between the lowest sole and the ground at reset.
_START_GAP_M = 0.01


class Drawn(NamedTuple):
    """One episode's parameters.

    Attributes:
      model: [P] values of `model_fields`, what the physics takes.
      friction: [] sliding friction of the feet.
      payload_kg: [] mass added to the trunk.
      stiffness_factor, damping_factor: [] on the PD gains.
    """

    model: Array
    friction: Array
    payload_kg: Array
    stiffness_factor: Array
    damping_factor: Array


def model_fields(model: mujoco.MjModel) -> tuple[ModelField, ...]:
    """Model entries that an episode may change: trunk mass and centre, friction, PD gains."""
    trunk = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, "trunk")
    feet = [mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_GEOM, f"{leg}_foot") for leg in LEGS]
    gains, biases = model.actuator_gainprm.shape[1], model.actuator_biasprm.shape[1]
    motors = range(model.nu)
    return (
        ModelField("body_mass", (trunk,)),
        ModelField("body_ipos", tuple(3 * trunk + axis for axis in range(3))),
        ModelField("geom_friction", tuple(3 * foot for foot in feet)),
        ModelField("actuator_gainprm", tuple(gains * motor for motor in motors)),
        ModelField("actuator_biasprm", tuple(biases * motor + 1 for motor in motors)),
        ModelField("actuator_biasprm", tuple(biases * motor + 2 for motor in motors)),
    )


def draw(key: Array, robot: QuadrupedSpec, config: VelocityConfig) -> Drawn:
    """Draws one episode's parameters; the nominal ones where `config.randomise` is False."""
    ranges = config.randomisation
    keys = jax.random.split(key, 5)
    zero, one = jnp.zeros((), jnp.float32), jnp.ones((), jnp.float32)
    payload, friction, stiffness_factor, damping_factor = zero, one, one, one
    offset = jnp.zeros(3, jnp.float32)
    if config.randomise:
        payload = _uniform(keys[0], ranges.payload_kg)
        friction = _uniform(keys[1], ranges.friction)
        stiffness_factor = _uniform(keys[2], ranges.stiffness_factor)
        damping_factor = _uniform(keys[3], ranges.damping_factor)
        offset = ranges.com_offset_m * jax.random.uniform(keys[4], (3,), minval=-1.0, maxval=1.0)
    stiffness = (config.stiffness or robot.stiffness) * stiffness_factor
    damping = (config.damping or robot.damping) * damping_factor
    twelve = jnp.ones(12, jnp.float32)
    model = jnp.concatenate(
        [
            (robot.trunk.mass + payload)[None],
            jnp.asarray(robot.trunk.com, jnp.float32) + offset,
            friction * jnp.ones(4, jnp.float32),
            stiffness * twelve,
            -stiffness * twelve,
            -damping * twelve,
        ]
    )
    return Drawn(model, friction, payload, stiffness_factor, damping_factor)


def initial_motion(key: Array, robot: QuadrupedSpec, config: VelocityConfig) -> tuple[Array, Array]:
    """Draws the first positions [19] and velocities [18], the lowest sole just off the ground."""
    key_joints, key_velocity, key_yaw = jax.random.split(key, 3)
    pose = jnp.asarray(robot.default_pose, jnp.float32)
    velocity = jnp.zeros(18, jnp.float32)
    if config.randomise:
        low, high = config.randomisation.initial_joint_factor
        limits = np.tile(np.asarray(robot.joint_range, np.float32), (4, 1))
        pose = pose * jax.random.uniform(key_joints, (12,), minval=low, maxval=high)
        pose = jnp.clip(pose, limits[:, 0], limits[:, 1])
        spread = config.randomisation.initial_velocity
        kick = jax.random.uniform(key_velocity, (6,), minval=-spread, maxval=spread)
        velocity = velocity.at[:6].set(kick)
    yaw = jax.random.uniform(key_yaw, (), minval=-jnp.pi, maxval=jnp.pi)
    feet, _ = leg_kinematics(robot, pose)
    height = robot.foot_radius + _START_GAP_M - jnp.min(feet[:, 2])
    zero = jnp.zeros((), jnp.float32)
    root = jnp.stack([zero, zero, height, jnp.cos(yaw / 2), zero, zero, jnp.sin(yaw / 2)])
    return jnp.concatenate([root, pose]), velocity


def observation_noise(config: RandomisationConfig) -> np.ndarray:
    """Half-widths of the uniform noise on the 30 sensed numbers of an observation, scaled."""
    return np.concatenate(
        [
            np.full(3, 0.25 * config.noise_angular_velocity),
            np.full(3, config.noise_gravity),
            np.full(12, config.noise_joint_angle),
            np.full(12, 0.05 * config.noise_joint_velocity),
        ]
    ).astype(np.float32)


def _uniform(key: Array, bounds: tuple[float, float]) -> Array:
    return jax.random.uniform(key, (), minval=bounds[0], maxval=bounds[1])


__all__ = ["FRICTION", "Drawn", "draw", "initial_motion", "model_fields", "observation_noise"]
