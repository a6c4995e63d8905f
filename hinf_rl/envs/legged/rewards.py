"""Reward terms of the velocity task: pure functions of a motion, one number per term."""

from typing import NamedTuple

import jax.numpy as jnp
from jax.typing import ArrayLike

from hinf_rl.envs.legged.config import RewardConfig
from hinf_rl.types import Array

TASK_TERMS = ("tracking_linear", "tracking_yaw")
"""Names of the terms that the robustness cost is measured on."""
AUXILIARY_TERMS = (
    "alive",
    "vertical_velocity",
    "roll_pitch_rate",
    "orientation",
    "joint_acceleration",
    "joint_power",
    "base_height",
    "foot_clearance",
    "action_rate",
    "smoothness",
    "torque",
    "feet_air_time",
    "pose",
)
"""Names of the terms outside the robustness cost."""


class Motion(NamedTuple):
    """One control step of one robot, as the reward sees it.

    Attributes:
      command: [3] forward and lateral speed (m/s), yaw rate (rad/s).
      linear_velocity, angular_velocity: [3] of the trunk, in the trunk frame.
      gravity: [3] unit gravity in the trunk frame.
      height: [] trunk height (m).
      joints, joint_velocity, previous_joint_velocity: [12].
      torque: [12] (Nm).
      action, previous_action, earlier_action: [12].
      foot_position: [4, 3] in the trunk frame (m).
      foot_velocity: [4, 3] relative to the trunk's linear velocity, in its frame (m/s).
      landed: [4] bool, the foot touched down in this step.
      air_time: [4] s that each foot had been in the air before this step.
    """

    command: Array
    linear_velocity: Array
    angular_velocity: Array
    gravity: Array
    height: Array
    joints: Array
    joint_velocity: Array
    previous_joint_velocity: Array
    torque: Array
    action: Array
    previous_action: Array
    earlier_action: Array
    foot_position: Array
    foot_velocity: Array
    landed: Array
    air_time: Array


def task_terms(motion: Motion, config: RewardConfig) -> dict[str, Array]:
    """Tracking rewards per second, each in [0, its scale]: exp(-|error|^2 / width)."""
    linear_error = jnp.sum((motion.command[:2] - motion.linear_velocity[:2]) ** 2)
    yaw_error = (motion.command[2] - motion.angular_velocity[2]) ** 2
    return {
        "tracking_linear": config.tracking_linear * jnp.exp(-linear_error / config.tracking_width),
        "tracking_yaw": config.tracking_yaw * jnp.exp(-yaw_error / config.tracking_width),
    }


def auxiliary_terms(
    motion: Motion, config: RewardConfig, *, dt_s: float, default_pose: ArrayLike
) -> dict[str, Array]:
    """Everything that is not tracking, per second.

    Args:
      motion: the step.
      config: the scales; a term whose scale is 0 is left out.
      dt_s: control period.
      default_pose: [12] joint angles (rad).

    Returns:
      [] scale times term, by name in the order of `term_names`.
    """
    acceleration = (motion.joint_velocity - motion.previous_joint_velocity) / dt_s
    jerk = motion.action - 2.0 * motion.previous_action + motion.earlier_action
    clearance = motion.foot_position[:, 2] - config.foot_clearance_target_m
    foot_speed = jnp.sqrt(jnp.sum(motion.foot_velocity[:, :2] ** 2, axis=-1) + 1e-12)
    # A step only counts while one is asked for: standing robots should stand.
    counts = motion.landed & (jnp.linalg.norm(motion.command) > 0.1)
    stride = jnp.sum(motion.air_time - config.air_time_target_s, where=counts)
    values = {
        "alive": jnp.ones((), jnp.float32),
        "vertical_velocity": motion.linear_velocity[2] ** 2,
        "roll_pitch_rate": jnp.sum(motion.angular_velocity[:2] ** 2),
        "orientation": jnp.sum(motion.gravity[:2] ** 2),
        "joint_acceleration": jnp.sum(acceleration**2),
        "joint_power": jnp.sum(jnp.abs(motion.joint_velocity) * jnp.abs(motion.torque)),
        "base_height": (motion.height - config.base_height_target_m) ** 2,
        "foot_clearance": jnp.sum(clearance**2 * foot_speed),
        "action_rate": jnp.sum((motion.action - motion.previous_action) ** 2),
        "smoothness": jnp.sum(jerk**2),
        "torque": jnp.sum(motion.torque**2),
        "feet_air_time": stride,
        "pose": jnp.sum((motion.joints - default_pose) ** 2),
    }
    return {name: getattr(config, name) * values[name] for name in _active(config)}


def term_names(config: RewardConfig) -> tuple[str, ...]:
    """Names of all terms that `config` scales by more or less than 0; the task's come first."""
    return TASK_TERMS + _active(config)


def _active(config: RewardConfig) -> tuple[str, ...]:
    return tuple(name for name in AUXILIARY_TERMS if getattr(config, name) != 0.0)


__all__ = ["AUXILIARY_TERMS", "TASK_TERMS", "Motion", "auxiliary_terms", "task_terms", "term_names"]
