"""Reward terms of the hind-leg task: pure functions of a motion, one number per term."""

from typing import NamedTuple

import jax.numpy as jnp

from hinf_rl.envs.legged.hind_config import HindRewardConfig
from hinf_rl.types import Array

TASK_TERMS = ("tracking_linear", "tracking_yaw")
"""Names of the terms that the robustness cost is measured on."""
AUXILIARY_TERMS = (
    "alive",
    "upright",
    "height",
    "front_contact",
    "front_pose",
    "joint_limits",
    "vertical_velocity",
    "lean_rate",
    "joint_acceleration",
    "joint_power",
    "action_rate",
    "smoothness",
)
"""Names of the terms outside the robustness cost."""


class HindMotion(NamedTuple):
    """One control step of one robot, as the reward sees it.

    Attributes:
      command: [3] forward and lateral speed (m/s), yaw rate (rad/s).
      velocity: [3] of the trunk in the heading frame, z up (m/s).
      turn_rate: [3] of the trunk in the heading frame, z up (rad/s).
      uprightness: [] cosine of the angle between the trunk and its stance.
      shortfall: [] how far the trunk is below its stance's height (m), >= 0.
      front_contact: [2] bool, front feet on the ground.
      pose_error: [12] joint angles less the stance's (rad).
      limit_excess: [12] how far joints are beyond their soft limits (rad), >= 0.
      joint_velocity, previous_joint_velocity: [12].
      torque: [12] (Nm).
      action, previous_action, earlier_action: [12].
    """

    command: Array
    velocity: Array
    turn_rate: Array
    uprightness: Array
    shortfall: Array
    front_contact: Array
    pose_error: Array
    limit_excess: Array
    joint_velocity: Array
    previous_joint_velocity: Array
    torque: Array
    action: Array
    previous_action: Array
    earlier_action: Array


def task_terms(motion: HindMotion, config: HindRewardConfig) -> dict[str, Array]:
    """Tracking rewards per second, each in [0, its scale]: `u^2 exp(-|error|^2 / width)`.

    u is the uprightness, 0 where it is negative: a robot that follows its command on four legs,
    whose trunk is at nearly a right angle to the stance, has not done the task.
    """
    upright = jnp.clip(motion.uprightness, 0.0, 1.0) ** 2
    linear_error = jnp.sum((motion.command[:2] - motion.velocity[:2]) ** 2)
    yaw_error = (motion.command[2] - motion.turn_rate[2]) ** 2
    errors = {"tracking_linear": linear_error, "tracking_yaw": yaw_error}
    return {
        name: getattr(config, name) * upright * jnp.exp(-error / config.tracking_width)
        for name, error in errors.items()
    }


def auxiliary_terms(
    motion: HindMotion, config: HindRewardConfig, *, dt_s: float
) -> dict[str, Array]:
    """Everything that is not tracking, per second.

    `upright` is ((1 + u) / 2)^2, which shows the way up from any attitude, and `height` is
    exp(-shortfall / width); both are 1 at the stance, where all other terms but `alive` are 0.

    Args:
      motion: the step.
      config: the scales; a term whose scale is 0 is left out.
      dt_s: control period.

    Returns:
      [] scale times term, by name in the order of `term_names`.
    """
    acceleration = (motion.joint_velocity - motion.previous_joint_velocity) / dt_s
    jerk = motion.action - 2.0 * motion.previous_action + motion.earlier_action
    values = {
        "alive": jnp.ones((), jnp.float32),
        "upright": (0.5 + 0.5 * jnp.clip(motion.uprightness, -1.0, 1.0)) ** 2,
        "height": jnp.exp(-motion.shortfall / config.height_width_m),
        "front_contact": jnp.sum(motion.front_contact.astype(jnp.float32)),
        "front_pose": jnp.sum(motion.pose_error[:6] ** 2),
        "joint_limits": jnp.sum(motion.limit_excess),
        "vertical_velocity": motion.velocity[2] ** 2,
        "lean_rate": jnp.sum(motion.turn_rate[:2] ** 2),
        "joint_acceleration": jnp.sum(acceleration**2),
        "joint_power": jnp.sum(jnp.abs(motion.joint_velocity) * jnp.abs(motion.torque)),
        "action_rate": jnp.sum((motion.action - motion.previous_action) ** 2),
        "smoothness": jnp.sum(jerk**2),
    }
    return {name: getattr(config, name) * values[name] for name in _active(config)}


def term_names(config: HindRewardConfig) -> tuple[str, ...]:
    """Names of all terms that `config` scales by more or less than 0; the task's come first."""
    return TASK_TERMS + _active(config)


def _active(config: HindRewardConfig) -> tuple[str, ...]:
    return tuple(name for name in AUXILIARY_TERMS if getattr(config, name) != 0.0)


__all__ = [
    "AUXILIARY_TERMS",
    "TASK_TERMS",
    "HindMotion",
    "auxiliary_terms",
    "task_terms",
    "term_names",
]
