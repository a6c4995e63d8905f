"""What a recorded episode looks like as plain lines, for pictures without a GL library."""

# MuJoCo's compiled module carries no types.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hinf_rl.errors import UserError

ARROW_M = 0.6
"""Length of the arrow of a force at the limit."""


class View(NamedTuple):
    """One panel of one frame, in metres.

    Attributes:
      title: what is seen.
      segments: [N, 2, 2] lines, each from (x, y) to (x, y).
      arrow: [2, 2] start and end of the force's arrow; equal where there is none.
      centre: [2] middle of the panel.
      reach_m: half the panel's height.
      ground_m: height of the ground line; None draws none.
    """

    title: str
    segments: NDArray[np.float64]
    arrow: NDArray[np.float64]
    centre: NDArray[np.float64]
    reach_m: float
    ground_m: float | None


def find_model(env: Any) -> Any:
    """Returns the `mujoco.MjModel` of an environment or of one that it wraps, else None."""
    while env is not None:
        model = getattr(env, "model", None)
        if type(model).__name__ == "MjModel":
            return model
        env = getattr(env, "env", None)
    return None


def views_of(
    env: Any, physics: Any, force: NDArray, parameters: Any
) -> Callable[[int], list[View]]:
    """Returns what draws step i of an episode.

    Args:
      env: the environment; a MuJoCo model, a cart-pole or a pendulum can be drawn.
      physics: its physics with leaves [T, ...].
      force: [T, D] disturbance, in the world frame, over the limit (length 1 = limit).
      parameters: this episode's parameters.

    Raises:
      UserError: the environment has no picture.
    """
    model = find_model(env)
    if model is not None and hasattr(physics, "qpos"):
        qpos = np.asarray(physics.qpos, float)
        heading = heading_of(env, qpos) if model.nq >= 7 else np.zeros(len(qpos))
        return _mujoco_views(model, qpos, heading, force)
    if isinstance(physics, dict) and {"position", "angle"} <= set(physics):
        length = 2.0 * float(np.mean(getattr(parameters, "half_length_m", 0.5)))
        return lambda i: [_cart_pole(physics, force, length, i)]
    if isinstance(physics, dict) and "angle" in physics:
        length = float(np.mean(getattr(parameters, "length_m", 1.0)))
        return lambda i: [_pendulum(physics, force, length, i)]
    raise UserError(
        f"task {env.spec.name!r} has no picture; MuJoCo robots, cart-poles and pendulums have one"
    )


def yaw_of(qpos: NDArray) -> NDArray:
    """Yaw of a free base: [..., nq] positions (xyz, then quaternion w x y z) to [...] rad."""
    w, x, y, z = (qpos[..., i] for i in (3, 4, 5, 6))
    return np.arctan2(2 * (w * z + x * y), 1 - 2 * (y**2 + z**2))


def heading_of(env: Any, qpos: NDArray) -> NDArray:
    """Where the front of a free base faces: as the environment has it, else the base's yaw.

    Args:
      env: the environment, or one that wraps it; `heading_of` on positions [..., nq] is its own.
      qpos: [..., nq] positions.

    Returns:
      [...] rad.
    """
    while env is not None:
        own = getattr(env, "heading_of", None)
        if own is not None:
            return np.asarray(own(qpos), float)
        env = getattr(env, "env", None)
    return yaw_of(qpos)


def turn(vectors: NDArray, angle_rad: NDArray) -> NDArray:
    """Rotates [..., 3] vectors about the vertical by [...] angles."""
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    x, y, z = (vectors[..., i] for i in range(3))
    return np.stack([cos * x - sin * y, sin * x + cos * y, z], axis=-1)


def followed_body(model: Any) -> int:
    """Returns the body that the camera follows: "trunk", or else the first one."""
    import mujoco

    return max(mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, "trunk"), 1)


def _mujoco_views(
    model: Any, qpos: NDArray, heading: NDArray, force: NDArray
) -> Callable[[int], list[View]]:
    import mujoco

    data = mujoco.MjData(model)
    body = followed_body(model)

    def views(i: int) -> list[View]:
        data.qpos[:] = qpos[i]
        mujoco.mj_kinematics(model, data)
        origin = data.xpos[body].copy()
        # Seen from the robot's own side and with its head to the right, however it has turned.
        angle = -heading[i]
        height = np.array([0.0, 0.0, origin[2]])
        lines = turn(_lines(model, data, body) - origin, angle) + height
        push = turn(force[i], angle) * ARROW_M if force.shape[-1] == 3 else np.zeros(3)
        arrow = np.array([height, height + push])
        side, top = [0, 2], [0, 1]
        return [
            View("side", lines[..., side], arrow[..., side], np.array([0.0, 0.3]), 0.7, 0.0),
            View("top", lines[..., top], arrow[..., top], np.zeros(2), 0.7, None),
        ]

    return views


def _lines(model: Any, data: Any, trunk: int) -> NDArray:
    """[N, 2, 3] bones from parent to child, to the last shape of each limb, and the trunk's box."""
    bones = [
        (data.xpos[model.body_parentid[body]], data.xpos[body])
        for body in range(1, model.nbody)
        if model.body_parentid[body] != 0
    ]
    parents = set(model.body_parentid)
    for geom in range(model.ngeom):
        body = model.geom_bodyid[geom]
        if body != 0 and body not in parents:
            bones.append((data.xpos[body], data.geom_xpos[geom]))
        elif body == trunk:
            bones.extend(_box_edges(model, data, geom))
    return np.array(bones)


def _box_edges(model: Any, data: Any, geom: int) -> list[tuple[NDArray, NDArray]]:
    """The twelve edges of a box; other shapes have none."""
    import mujoco

    if model.geom_type[geom] != mujoco.mjtGeom.mjGEOM_BOX:
        return []
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    rotation = data.geom_xmat[geom].reshape(3, 3)
    corners = data.geom_xpos[geom] + (signs * model.geom_size[geom]) @ rotation.T
    return [
        (corners[a], corners[b])
        for a in range(8)
        for b in range(a + 1, 8)
        if np.abs(signs[a] - signs[b]).sum() == 2
    ]


def _cart_pole(physics: dict[str, NDArray], force: NDArray, length: float, i: int) -> View:
    x, angle = float(physics["position"][i]), float(physics["angle"][i])
    tip = np.array([x + length * np.sin(angle), length * np.cos(angle)])
    left, right, top, bottom = x - 0.15, x + 0.15, 0.0, -0.12
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    cart = [(corners[k], corners[(k + 1) % 4]) for k in range(4)]
    segments = np.array([*cart, ((x, 0.0), tuple(tip))])
    middle = np.array([x + tip[0], tip[1]]) / 2  # the pole's centre of mass
    arrow = np.array([middle, middle + np.array([ARROW_M * force[i, 0], 0.0])])
    return View("side", segments, arrow, np.array([x, 0.35]), 0.9, -0.12)


def _pendulum(physics: dict[str, NDArray], force: NDArray, length: float, i: int) -> View:
    angle = float(physics["angle"][i])
    tip = length * np.array([np.sin(angle), np.cos(angle)])
    # A torque has no place of its own: drawn as the push on the tip that it equals.
    push = ARROW_M * force[i, 0] * np.array([np.cos(angle), -np.sin(angle)])
    segments = np.array([((0.0, 0.0), tuple(tip)), ((-0.1, 0.0), (0.1, 0.0))])
    return View("side", segments, np.array([tip, tip + push]), np.zeros(2), 1.3 * length, None)


__all__ = [
    "ARROW_M",
    "View",
    "find_model",
    "followed_body",
    "heading_of",
    "turn",
    "views_of",
    "yaw_of",
]
