"""What a policy's numbers mean outside the simulator: names, order, units, frames, scales.

The environments assemble their observations themselves; this says it a second time, in words and
numbers that a robot's program can read. An export fails where the two differ: it is checked on
observations that the environment made.
"""

import dataclasses
from typing import Any

import numpy as np

from hinf_rl.envs.api import Env
from hinf_rl.envs.legged.robots import JOINTS, LEGS
from hinf_rl.envs.wrappers import HistoryWrapper

# Numbers of the one observation that is laid out here.
_LEGGED_SIZE = 45
# Bound of the velocity task on every observed number and on every action.
_LEGGED_LIMIT = 100.0
PREVIOUS_ACTION = "previous_action"
"""The part of an observation that the policy remembers by itself."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """Consecutive numbers of one observation: `scale * (value - offset)`, then clipped.

    Attributes:
      name: what the exported policy calls it.
      unit: of the value, before scaling.
      frame: coordinate frame of the value, "" where it has none.
      meaning: one line.
      scale, offset: one entry per number; the offset is in `unit`.
    """

    name: str
    unit: str
    frame: str
    meaning: str
    scale: tuple[float, ...]
    offset: tuple[float, ...]

    @property
    def size(self) -> int:
        """Count of numbers."""
        return len(self.scale)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """From sensors to an observation, and from an action to what is commanded.

    Attributes:
      parts: of one observation, in order.
      history: observations that the policy sees, newest first; at the start of an episode all
        slots hold the first one.
      observation_limit: bound on every number of an observation; None for none.
      action_size: length of the action.
      action_limit: bound on every number of the action; None for none.
      target: (offset, scale), both as long as the action: the joint target is
        `offset + scale * action`; None where the action itself is what leaves.
    """

    parts: tuple[Part, ...]
    history: int
    observation_limit: float | None
    action_size: int
    action_limit: float | None
    target: tuple[tuple[float, ...], tuple[float, ...]] | None

    @property
    def size(self) -> int:
        """Length of one observation."""
        return sum(part.size for part in self.parts)

    @property
    def inputs(self) -> tuple[Part, ...]:
        """The parts that have to be measured or asked for."""
        return tuple(part for part in self.parts if part.name != PREVIOUS_ACTION)

    @property
    def output(self) -> str:
        """Name of what leaves the policy."""
        return "action" if self.target is None else "joint_target"

    def slices(self) -> dict[str, slice]:
        """Where each part lies in an observation."""
        found, start = {}, 0
        for part in self.parts:
            found[part.name] = slice(start, start + part.size)
            start += part.size
        return found

    def values(self, observation: np.ndarray) -> dict[str, np.ndarray]:
        """Takes an observation apart: the inputs [..., size] that give [..., O]."""
        slices = self.slices()
        return {
            part.name: observation[..., slices[part.name]] / np.asarray(part.scale, np.float32)
            + np.asarray(part.offset, np.float32)
            for part in self.inputs
        }

    def to_json(self) -> dict[str, Any]:
        """JSON values of everything above, with the slice of each part."""
        slices = self.slices()
        return {
            "size": self.size,
            "history": self.history,
            "order": "newest first",
            "limit": self.observation_limit,
            "parts": [
                {
                    "name": part.name,
                    "slice": [slices[part.name].start, slices[part.name].stop],
                    "is_input": part in self.inputs,
                    "unit": part.unit,
                    "frame": part.frame,
                    "meaning": part.meaning,
                    "scale": list(part.scale),
                    "offset": list(part.offset),
                }
                for part in self.parts
            ],
        }


def layout_of(env: Env) -> Layout:
    """Returns the layout of an environment: a quadruped's, or one plain vector."""
    inner, history = _unwrapped(env)
    robot = _quadruped(inner)
    if robot is not None:
        return _quadruped_layout(robot, history)
    size = inner.spec.policy_size
    part = Part(
        name="observation",
        unit="",
        frame="",
        meaning=f"observation of task {inner.spec.name} as its environment makes it",
        scale=(1.0,) * size,
        offset=(0.0,) * size,
    )
    return Layout(
        parts=(part,),
        history=history,
        observation_limit=None,
        action_size=inner.spec.action_size,
        action_limit=None,
        target=None,
    )


def robot_metadata(env: Env) -> dict[str, Any]:
    """Returns joints, gains, rates and limits of a quadruped's environment; else nothing.

    Lists that speak of joints have one entry for each of `joint_names`.
    """
    inner, _ = _unwrapped(env)
    quadruped = _quadruped(inner)
    if quadruped is None:
        return {}
    robot, config = quadruped.robot, quadruped.config
    return {
        "robot": robot.name,
        "joint_names": [f"{leg}_{joint}" for leg in LEGS for joint in JOINTS],
        "default_joint_position_rad": list(robot.default_pose),
        "action_scale_rad": [robot.action_scale] * 12,
        "kp_nm_per_rad": [quadruped.stiffness] * 12,
        "kd_nms_per_rad": [quadruped.damping] * 12,
        "torque_limit_nm": list(robot.torque_limit) * 4,
        "joint_range_rad": [list(bounds) for bounds in robot.joint_range] * 4,
        "joint_velocity_limit_rad_s": list(robot.velocity_limit) * 4,
        "physics_dt_s": config.physics_dt_s,
        "substeps": config.substeps,
        "command_limit": [
            config.max_forward_m_s,
            config.max_lateral_m_s,
            config.max_yaw_rad_s,
        ],
        "push_limit_n": quadruped.spec.disturbance.limit,
    }


def _quadruped_layout(env: Any, history: int) -> Layout:
    robot = env.robot
    zeros = (0.0, 0.0, 0.0)
    pose = tuple(robot.default_pose)
    parts = (
        Part(
            name="command",
            unit="m/s, m/s, rad/s",
            frame="trunk: x forward, y left, z up",
            meaning="velocity asked for: forward, to the left, turning to the left",
            scale=(2.0, 2.0, 0.25),
            offset=zeros,
        ),
        Part(
            name="angular_velocity",
            unit="rad/s",
            frame="trunk",
            meaning="of the trunk, as a gyroscope in it measures",
            scale=(0.25,) * 3,
            offset=zeros,
        ),
        Part(
            name="gravity",
            unit="",
            frame="trunk",
            meaning="unit vector that points down; (0, 0, -1) when the trunk is level",
            scale=(1.0,) * 3,
            offset=zeros,
        ),
        Part(
            name="joint_position",
            unit="rad",
            frame="",
            meaning="in the order of joint_names",
            scale=(1.0,) * 12,
            offset=pose,
        ),
        Part(
            name="joint_velocity",
            unit="rad/s",
            frame="",
            meaning="in the order of joint_names",
            scale=(0.05,) * 12,
            offset=(0.0,) * 12,
        ),
        Part(
            name=PREVIOUS_ACTION,
            unit="",
            frame="",
            meaning="last clipped action; zeros at the start of an episode",
            scale=(1.0,) * 12,
            offset=(0.0,) * 12,
        ),
    )
    return Layout(
        parts=parts,
        history=history,
        observation_limit=_LEGGED_LIMIT,
        action_size=12,
        action_limit=_LEGGED_LIMIT,
        target=(pose, (robot.action_scale,) * 12),
    )


def _unwrapped(env: Env) -> tuple[Env, int]:
    """The environment under its history, and the history's length."""
    return (env.env, env.length) if isinstance(env, HistoryWrapper) else (env, 1)


def _quadruped(env: Env) -> Any | None:
    """The environment where it is the velocity task itself: others observe other things."""
    # MuJoCo loads only where a robot is at hand.
    from hinf_rl.envs.legged.velocity import VelocityEnv

    is_known = type(env) is VelocityEnv and env.spec.policy_size == _LEGGED_SIZE
    return env if is_known else None


__all__ = ["PREVIOUS_ACTION", "Layout", "Part", "layout_of", "robot_metadata"]
