"""Velocity commands: how they are drawn, and how a heading becomes a yaw rate."""

import jax
import jax.numpy as jnp

from hinf_rl.envs.legged import kinematics
from hinf_rl.envs.legged.config import VelocityConfig
from hinf_rl.types import Array

# Yaw rate per rad of heading error (1/s), and its bound (rad/s).
_HEADING_GAIN, _HEADING_RATE_MAX = 0.5, 2.0


def draw_command(key: Array, config: VelocityConfig) -> tuple[Array, Array]:
    """Draws a command and a heading.

    Args:
      key: consumed.
      config: ranges and deadband.

    Returns:
      ([3] forward and lateral speed in m/s and yaw rate in rad/s, [] heading in rad). Planar
      speeds below the deadband become zero: such a command asks to stand.
    """
    key_linear, key_yaw = jax.random.split(key)
    limits = jnp.array([config.max_forward_m_s, config.max_lateral_m_s], jnp.float32)
    planar = limits * jax.random.uniform(key_linear, (2,), jnp.float32, -1.0, 1.0)
    moves = jnp.linalg.norm(planar) >= config.command_deadband_m_s
    turn = jax.random.uniform(key_yaw, (), jnp.float32, -1.0, 1.0)
    planar = jnp.where(moves, planar, jnp.zeros_like(planar))
    return jnp.append(planar, config.max_yaw_rad_s * turn), jnp.pi * turn


def yaw_command(command: Array, heading: Array, attitude: Array, config: VelocityConfig) -> Array:
    """Returns the command [3] with the yaw rate that turns towards the heading.

    Args:
      command: [3] forward and lateral speed (m/s), yaw rate (rad/s).
      heading: [] commanded heading (rad).
      attitude: [4] unit quaternion of the trunk.
      config: without `heading_command` the command stays as it is.
    """
    if not config.heading_command:
        return command
    error = kinematics.wrap_angle(heading - kinematics.yaw_angle(attitude))
    rate = jnp.clip(_HEADING_GAIN * error, -_HEADING_RATE_MAX, _HEADING_RATE_MAX)
    return command.at[2].set(rate)


__all__ = ["draw_command", "yaw_command"]
