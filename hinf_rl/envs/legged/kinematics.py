"""Rotations and closed-form leg kinematics: what a reward needs without asking the simulator.

Everything here depends on `qpos` and `qvel` alone, so that a reset needs no simulation and all
physics backends give the same observation at the same state.
"""

import jax.numpy as jnp
import numpy as np

from hinf_rl.envs.legged.robots import LEG_SIGNS, QuadrupedSpec
from hinf_rl.types import Array


def rotate(quaternion: Array, vector: Array) -> Array:
    """Rotates body-frame vectors into the world frame.

    Args:
      quaternion: [4] unit quaternion, scalar first.
      vector: [..., 3].

    Returns:
      [..., 3].
    """
    scalar, axis = quaternion[0], quaternion[1:]
    axis = jnp.broadcast_to(axis, vector.shape)
    twice_cross = 2.0 * jnp.cross(axis, vector)
    return vector + scalar * twice_cross + jnp.cross(axis, twice_cross)


def rotate_inverse(quaternion: Array, vector: Array) -> Array:
    """Rotates world-frame vectors [..., 3] into the body frame of `quaternion` [4]."""
    conjugate = quaternion * jnp.array([1.0, -1.0, -1.0, -1.0], jnp.float32)
    return rotate(conjugate, vector)


def yaw_angle(quaternion: Array) -> Array:
    """Returns the [] heading in rad of a unit quaternion [4]."""
    w, x, y, z = quaternion
    return jnp.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))


def rotate_heading(yaw: Array, vector: Array) -> Array:
    """Turns a heading-frame vector [3] by `yaw` [] (rad) about the world's vertical."""
    cos, sin = jnp.cos(yaw), jnp.sin(yaw)
    x, y, z = vector
    return jnp.stack([cos * x - sin * y, sin * x + cos * y, z])


def wrap_angle(angle: Array) -> Array:
    """Wraps an angle in rad to [-pi, pi)."""
    return jnp.mod(angle + jnp.pi, 2.0 * jnp.pi) - jnp.pi


def leg_kinematics(spec: QuadrupedSpec, joints: Array) -> tuple[Array, Array]:
    """Foot centres and their Jacobians in the trunk frame.

    With hip angle h, thigh angle t and calf angle c a leg's point before the hip turns is
    x = -l_t sin t - l_c sin(t + c), y = sy abd, z = -l_t cos t - l_c cos(t + c).

    Args:
      spec: the robot.
      joints: [12] joint angles in rad, order FL FR RL RR x hip thigh calf.

    Returns:
      (positions [4, 3] in m, Jacobians [4, 3, 3]: d position / d (hip, thigh, calf)).
    """
    hip, thigh, calf = joints.reshape(4, 3).T
    signs = np.asarray(LEG_SIGNS, np.float32)
    hip_x, hip_y = signs[:, 0] * spec.hip_xy[0], signs[:, 1] * spec.hip_xy[1]
    lateral = signs[:, 1] * spec.abduction_offset
    sin_h, cos_h = jnp.sin(hip), jnp.cos(hip)
    upper_x, upper_z = -spec.thigh_length * jnp.sin(thigh), -spec.thigh_length * jnp.cos(thigh)
    lower_x = -spec.calf_length * jnp.sin(thigh + calf)
    lower_z = -spec.calf_length * jnp.cos(thigh + calf)
    x, z = upper_x + lower_x, upper_z + lower_z
    positions = jnp.stack(
        [hip_x + x, hip_y + cos_h * lateral - sin_h * z, sin_h * lateral + cos_h * z], axis=-1
    )
    zero = jnp.zeros_like(x)
    by_hip = jnp.stack([zero, -sin_h * lateral - cos_h * z, cos_h * lateral - sin_h * z], axis=-1)
    # Turning the thigh moves (x, z) as a rigid pair: dx = z, dz = -x.
    by_thigh = jnp.stack([z, sin_h * x, -cos_h * x], axis=-1)
    by_calf = jnp.stack([lower_z, sin_h * lower_x, -cos_h * lower_x], axis=-1)
    return positions, jnp.stack([by_hip, by_thigh, by_calf], axis=-1)


def trunk_clearance(spec: QuadrupedSpec, height: Array, quaternion: Array) -> Array:
    """Height in m of the lowest corner of the trunk box above a floor at 0.

    Args:
      spec: the robot.
      height: [] trunk height in m.
      quaternion: [4] trunk attitude.
    """
    half = 0.5 * np.asarray(spec.trunk_box, np.float32)
    # The vertical in the trunk frame; the lowest corner lies against its sign on every axis.
    vertical = rotate_inverse(quaternion, jnp.array([0.0, 0.0, 1.0], jnp.float32))
    return height - jnp.sum(jnp.abs(vertical) * half)


__all__ = [
    "leg_kinematics",
    "rotate",
    "rotate_heading",
    "rotate_inverse",
    "trunk_clearance",
    "wrap_angle",
    "yaw_angle",
]
