"""Geometry of a quadruped on its hind legs: heading, knees, and the stance that balances.

With the nose up the trunk's forward axis points at the sky and its yaw angle means nothing. The
lateral axis stays level however far the nose rises: it gives the heading here, of a robot on four
legs and on two alike. On two legs the belly faces forward.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from hinf_rl.envs.legged.kinematics import leg_kinematics, rotate
from hinf_rl.envs.legged.robots import LEG_SIGNS, QuadrupedSpec
from hinf_rl.types import Array


class Stance(NamedTuple):
    """How a robot stands on its hind feet with its centre of mass above them.

    Attributes:
      pitch_rad: rotation about the lateral axis; -pi/2 is a vertical trunk, nose up.
      height_m: trunk height with the hind soles on the ground.
      vertical: [3] the world's vertical in the trunk frame.
      com_height_m: height of the centre of mass.
    """

    pitch_rad: float
    height_m: float
    vertical: tuple[float, float, float]
    com_height_m: float


def heading_angle(quaternion: Array) -> Array:
    """Returns the heading in rad of unit quaternions [..., 4] as [...].

    Left and up, both known, give forward; equal to the yaw angle where the robot does not roll.
    Undefined only for a robot that lies on its side.
    """
    w, x, y, z = (quaternion[..., index] for index in range(4))
    return jnp.arctan2(2.0 * (w * z - x * y), 1.0 - 2.0 * (x * x + z * z))


def knee_positions(spec: QuadrupedSpec, joints: Array) -> Array:
    """Returns the calf joints' places [4, 3] in the trunk frame (m) at joint angles [12] (rad)."""
    hip, thigh, _ = joints.reshape(4, 3).T
    signs = np.asarray(LEG_SIGNS, np.float32)
    lateral = signs[:, 1] * spec.abduction_offset
    x, z = -spec.thigh_length * jnp.sin(thigh), -spec.thigh_length * jnp.cos(thigh)
    sin, cos = jnp.sin(hip), jnp.cos(hip)
    hips = signs * np.asarray(spec.hip_xy, np.float32)
    return jnp.stack(
        [hips[:, 0] + x, hips[:, 1] + cos * lateral - sin * z, sin * lateral + cos * z], axis=-1
    )


def sole_heights(spec: QuadrupedSpec, qpos: Array) -> Array:
    """Returns the heights [4] of the soles above a floor at 0 (m) at positions [19]."""
    feet, _ = leg_kinematics(spec, qpos[7:])
    return qpos[2] + rotate(qpos[3:7], feet)[:, 2] - spec.foot_radius


def knee_heights(spec: QuadrupedSpec, qpos: Array) -> Array:
    """Returns the heights [4] of the calf joints' axes above a floor at 0 (m) at [19]."""
    return qpos[2] + rotate(qpos[3:7], knee_positions(spec, qpos[7:]))[:, 2]


def pitched(yaw: Array, pitch_rad: float) -> Array:
    """Returns the attitude [4] of a trunk pitched about its lateral axis, then yawed by [] rad."""
    cos, sin = np.cos(pitch_rad / 2), np.sin(pitch_rad / 2)
    cos_yaw, sin_yaw = jnp.cos(yaw / 2), jnp.sin(yaw / 2)
    return jnp.stack([cos * cos_yaw, -sin * sin_yaw, sin * cos_yaw, cos * sin_yaw])


def centre_of_mass(spec: QuadrupedSpec, joints: ArrayLike) -> NDArray[np.float64]:
    """Returns the whole robot's centre of mass [3] in the trunk frame (m), in float64.

    Args:
      spec: the robot.
      joints: [12] joint angles in rad.
    """
    moment = spec.trunk.mass * np.asarray(spec.trunk.com)
    for (sx, sy), angles in zip(LEG_SIGNS, np.reshape(joints, (4, 3)), strict=True):
        hip, thigh, calf = angles
        frame, origin = _turn_x(hip), np.array([sx * spec.hip_xy[0], sy * spec.hip_xy[1], 0.0])
        links = (
            (spec.hip.mirrored(sx=sx, sy=sy), (0.0, sy * spec.abduction_offset, 0.0), thigh),
            (spec.thigh.mirrored(sy=sy), (0.0, 0.0, -spec.thigh_length), calf),
            (spec.calf, (0.0, 0.0, 0.0), 0.0),
        )
        for link, to_next, angle in links:
            moment = moment + link.mass * (origin + frame @ np.asarray(link.com))
            origin, frame = origin + frame @ np.asarray(to_next), frame @ _turn_y(angle)
    return moment / spec.total_mass


def balanced_stance(spec: QuadrupedSpec, joints: ArrayLike) -> Stance:
    """Finds the pitch that brings the centre of mass above the hind feet.

    The feet are spheres and touch the ground right below their centres, so that the line from
    between the two to the centre of mass must be the vertical.

    Args:
      spec: the robot.
      joints: [12] joint angles in rad, the same on both sides.
    """
    feet = np.asarray(leg_kinematics(spec, jnp.asarray(joints, jnp.float32))[0], np.float64)
    support = feet[2:].mean(axis=0)
    x, _, z = centre_of_mass(spec, joints) - support
    length = float(np.hypot(x, z))
    vertical = (float(x / length), 0.0, float(z / length))
    return Stance(
        pitch_rad=float(np.arctan2(-x, z)),
        height_m=spec.foot_radius - float(np.dot(vertical, support)),
        vertical=vertical,
        com_height_m=spec.foot_radius + length,
    )


def _turn_x(angle: float) -> NDArray[np.float64]:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, cos, -sin], [0.0, sin, cos]])


def _turn_y(angle: float) -> NDArray[np.float64]:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]])


__all__ = [
    "Stance",
    "balanced_stance",
    "centre_of_mass",
    "heading_angle",
    "knee_heights",
    "knee_positions",
    "pitched",
    "sole_heights",
]
