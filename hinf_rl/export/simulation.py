"""A quadruped in plain MuJoCo under an exported policy: MuJoCo and NumPy, nothing of training.

The loop is written a second time on purpose. It reads sensors from positions and velocities by
its own formulas, takes gains, rates and limits from the exported file alone, and runs episodes as
the robustness protocol describes them; what it shares with the training environment is the text
of the robot's model. Where the two agree, neither file nor environment hides an assumption.
"""

# MuJoCo's compiled module carries no types.
# pyright: reportAttributeAccessIssue=false

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

import mujoco
import numpy as np
from numpy.typing import NDArray

from hinf_rl.envs.legged.mjcf import build_mjcf
from hinf_rl.envs.legged.robots import get_robot

_Floats = NDArray[np.float64]
Motor: TypeAlias = Literal["servo", "torque"]
"""The servo of training, or a torque motor under a PD loop."""

# The lowest sole starts this far above the ground; a trunk this near to it has fallen (m).
_START_GAP_M, _FALL_M = 0.01, 0.005
# A torque motor's own control loop runs at least this often (s).
_MOTOR_DT_S = 0.001
# The protocol's pushes last this long, come this often, begin here (s).
_HOLD_S, _PERIOD_S, _FIRST_S = 0.2, 3.0, 1.0
_DIVERGED = (
    mujoco.mjtWarning.mjWARN_BADQPOS,
    mujoco.mjtWarning.mjWARN_BADQVEL,
    mujoco.mjtWarning.mjWARN_BADQACC,
)
_HEADING_GAIN, _HEADING_RATE = 0.5, 2.0  # 1/s, rad/s


@dataclasses.dataclass(frozen=True)
class Scenario:
    """What happens to N robots in T control steps, whatever they do.

    Attributes:
      yaw: [N] heading at the start (rad).
      command: [N, T, 3] velocity asked for (m/s, m/s, rad/s).
      heading: [N, T] heading asked for (rad), which the yaw rate follows; None takes the rate.
      force: [N, T, 3] on the trunk (N), in the heading frame.
    """

    yaw: _Floats
    command: _Floats
    heading: _Floats | None
    force: _Floats


class Trace(NamedTuple):
    """How N robots fared; steps after a fall hold what was last seen.

    Attributes:
      survived: [N] bool.
      steps: [N] control steps before the fall, T without one.
      velocity_error: [N] mean distance of the horizontal velocity from its command (m/s).
      inputs: by name, [T, N, size] what the policy was told.
      observations: [T, N, O] what its network saw.
      actions: [T, N, A].
    """

    survived: NDArray[np.bool_]
    steps: NDArray[np.int64]
    velocity_error: _Floats
    inputs: dict[str, _Floats]
    observations: NDArray[np.float32]
    actions: NDArray[np.float32]


class Simulation:
    """N robots of one exported policy.

    Args:
      policy: see `hinf_rl.export.recording.Runner`; a quadruped's.
      motor: "servo" is the position servo that the policy was trained with, stepped as in
        training; "torque" is a torque motor under a PD loop of its own at 1 kHz or more.
    """

    def __init__(self, policy: Any, motor: Motor = "servo") -> None:
        self._policy = policy
        self._data: Mapping[str, Any] = policy.metadata
        self._motor = motor
        data = self._data
        self._split = 1
        if motor == "torque":
            self._split = max(1, int(np.ceil(data["physics_dt_s"] / _MOTOR_DT_S)))
        self.model = mujoco.MjModel.from_xml_string(
            build_mjcf(
                get_robot(data["robot"]),
                timestep=data["physics_dt_s"] / self._split,
                collisions=data["environment"]["collisions"],
            )
        )
        names = data["joint_names"]
        joints = [self.model.joint(name) for name in names]
        self._qpos = np.array([joint.qposadr[0] for joint in joints])
        self._qvel = np.array([joint.dofadr[0] for joint in joints])
        self._ctrl = np.array([self.model.actuator(name).id for name in names])
        self._trunk = self.model.body("trunk").id
        self._box = np.array(self.model.geom("trunk").size)
        self._kp, self._kd = np.array(data["kp_nm_per_rad"]), np.array(data["kd_nms_per_rad"])
        self._set_motors()

    @property
    def num_substeps(self) -> int:
        """Physics steps of one control step."""
        return self._data["substeps"] * self._split

    def run(self, scenario: Scenario) -> Trace:
        """Runs one episode of each robot."""
        count, num_steps = scenario.force.shape[:2]
        robots = [self._start(yaw) for yaw in scenario.yaw]
        steps, error = np.full(count, num_steps), np.zeros(count)
        inputs, observations, actions = [], [], []
        self._policy.reset()
        for t in range(num_steps):
            sensed = self._sense(robots, scenario, t)
            target = self._policy.step(**sensed).astype(np.float64)
            inputs.append(sensed)
            observations.append(np.array(self._policy.observation))
            actions.append(np.array(self._policy.action))
            standing = np.flatnonzero(steps == num_steps)
            for i in standing:
                self._advance(robots[i], target[i], scenario.force[i, t])
            if not standing.size:
                continue
            upright = [robots[i] for i in standing]
            error[standing] += _velocity_error(upright, sensed["command"][standing])
            steps[standing[self._have_fallen(upright)]] = t
        survived = steps == num_steps
        return Trace(
            survived=survived,
            steps=steps,
            velocity_error=error / np.where(survived, num_steps, steps + 1),
            inputs={name: np.stack([step[name] for step in inputs]) for name in inputs[0]},
            observations=np.stack(observations),
            actions=np.stack(actions),
        )

    def _set_motors(self) -> None:
        model, kp, kd = self.model, self._kp, self._kd
        limit = np.array(self._data["torque_limit_nm"])
        model.actuator_forcerange[self._ctrl] = np.stack([-limit, limit], axis=1)
        is_servo = self._motor == "servo"
        model.actuator_gainprm[self._ctrl, 0] = kp if is_servo else 1.0
        model.actuator_biasprm[self._ctrl, 1] = -kp if is_servo else 0.0
        model.actuator_biasprm[self._ctrl, 2] = -kd if is_servo else 0.0

    def _start(self, yaw: float) -> mujoco.MjData:
        """A robot at rest in the default pose, its lowest sole just above the ground."""
        data = mujoco.MjData(self.model)
        data.qpos[:7] = [0.0, 0.0, 0.0, np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)]
        data.qpos[self._qpos] = self._data["default_joint_position_rad"]
        mujoco.mj_kinematics(self.model, data)
        feet = [data.geom(f"{leg}_foot").id for leg in ("FL", "FR", "RL", "RR")]
        soles = data.geom_xpos[feet, 2] - self.model.geom_size[feet, 0]
        data.qpos[2] = _START_GAP_M - soles.min()
        return data

    def _sense(
        self, robots: list[mujoco.MjData], scenario: Scenario, t: int
    ) -> dict[str, np.ndarray]:
        qpos, qvel = _stacked(robots, "qpos"), _stacked(robots, "qvel")
        command = scenario.command[:, t].copy()
        if scenario.heading is not None:
            off = scenario.heading[:, t] - _yaw(qpos[:, 3:7])
            off = np.arctan2(np.sin(off), np.cos(off))
            command[:, 2] = np.clip(_HEADING_GAIN * off, -_HEADING_RATE, _HEADING_RATE)
        return {
            "command": command,
            # MuJoCo gives a free body's rotation rate in the body's own frame.
            "angular_velocity": qvel[:, 3:6],
            "gravity": -_vertical(qpos[:, 3:7]),
            "joint_position": qpos[:, self._qpos],
            "joint_velocity": qvel[:, self._qvel],
        }

    def _advance(self, data: mujoco.MjData, target: _Floats, force: _Floats) -> None:
        yaw = _yaw(data.qpos[None, 3:7])[0]
        x, y, z = force
        pushed = (np.cos(yaw) * x - np.sin(yaw) * y, np.sin(yaw) * x + np.cos(yaw) * y, z)
        data.xfrc_applied[self._trunk, :3] = pushed
        if self._motor == "servo":
            data.ctrl[self._ctrl] = target
            mujoco.mj_step(self.model, data, nstep=self.num_substeps)
            return
        for _ in range(self.num_substeps):
            error = target - data.qpos[self._qpos]
            # The motor's force range, set from the file, bounds the torque.
            data.ctrl[self._ctrl] = self._kp * error - self._kd * data.qvel[self._qvel]
            mujoco.mj_step(self.model, data)

    def _have_fallen(self, robots: list[mujoco.MjData]) -> NDArray[np.bool_]:
        """[N] whether the lowest corner of the trunk touches the ground, or the physics broke."""
        broken = [any(data.warning[kind].number for kind in _DIVERGED) for data in robots]
        for data in itertools.compress(robots, broken):
            mujoco.mj_resetData(self.model, data)  # no robot may send NaN to the policy
        qpos = _stacked(robots, "qpos")
        signs = np.array(list(itertools.product((-1, 1), repeat=3)))
        corners = _vertical(qpos[:, 3:7]) @ (signs * self._box).T
        return np.array(broken, bool) | (qpos[:, 2] + corners.min(axis=1) < _FALL_M)


def draw_scenario(
    metadata: Mapping[str, Any], kind: str, magnitude: float, *, episodes: int, seed: int
) -> Scenario:
    """Draws starts, commands and forces as task and protocol prescribe, from NumPy's generator.

    Args:
      metadata: of the exported policy.
      kind: "nominal", "continuous" (a new direction every 0.2 s) or "sudden" (horizontal, 0.2 s
        long, every 3 s from the first second on).
      magnitude: of the force (N).
      episodes: N.
      seed: of the generator.
    """
    rng = np.random.default_rng(seed)
    settings, dt = metadata["environment"], metadata["control_dt_s"]
    num_steps = metadata["episode_length"]
    yaw = rng.uniform(-np.pi, np.pi, episodes)
    every = max(1, round(settings["command_interval_s"] / dt))
    segments = -(-num_steps // every)
    shares = rng.uniform(-1.0, 1.0, (episodes, segments, 3))
    command = shares * np.array(metadata["command_limit"])
    slow = np.linalg.norm(command[..., :2], axis=-1) < settings["command_deadband_m_s"]
    command[..., :2][slow] = 0.0
    command, turn = (np.repeat(x, every, 1)[:, :num_steps] for x in (command, shares[..., 2]))
    return Scenario(
        yaw=yaw,
        command=command,
        heading=np.pi * turn if settings["heading_command"] else None,
        force=magnitude * _directions(rng, kind, episodes, num_steps, dt),
    )


def _directions(
    rng: np.random.Generator, kind: str, episodes: int, num_steps: int, dt: float
) -> _Floats:
    """[N, T, 3] unit vectors where the force acts, zeros elsewhere."""
    hold, period, first = (max(1, round(s / dt)) for s in (_HOLD_S, _PERIOD_S, _FIRST_S))
    t = np.arange(num_steps)
    if kind == "continuous":
        block, acts = t // hold, np.ones(num_steps)
    elif kind == "sudden":
        since = t - first
        block = np.maximum(since, 0) // period
        acts = ((since >= 0) & (since % period < hold)).astype(float)
    else:
        return np.zeros((episodes, num_steps, 3))
    drawn = rng.normal(size=(episodes, block.max() + 1, 3))
    if kind == "sudden":
        drawn[..., 2] = 0.0
    drawn /= np.linalg.norm(drawn, axis=-1, keepdims=True)
    return drawn[:, block] * acts[:, None]


def _velocity_error(robots: list[mujoco.MjData], command: _Floats) -> _Floats:
    """[N] distance of the horizontal velocity, in the trunk frame, from its command (m/s)."""
    attitude, velocity = _stacked(robots, "qpos")[:, 3:7], _stacked(robots, "qvel")[:, :3]
    w, axis = attitude[:, :1], -attitude[:, 1:]  # the inverse rotation
    twice = 2.0 * np.cross(axis, velocity)
    seen = velocity + w * twice + np.cross(axis, twice)
    return np.linalg.norm(seen[:, :2] - command[:, :2], axis=1)


def _stacked(robots: list[mujoco.MjData], name: str) -> _Floats:
    """[N, size] a field of each robot."""
    return np.stack([getattr(data, name) for data in robots])


def _yaw(attitude: _Floats) -> _Floats:
    """[N] heading (rad) of unit quaternions [N, 4], scalar first."""
    w, x, y, z = attitude.T
    return np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))


def _vertical(attitude: _Floats) -> _Floats:
    """[N, 3] the world's upward direction in the body frame: last row of the rotation matrix."""
    w, x, y, z = attitude.T
    return np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], axis=1)


__all__ = ["Motor", "Scenario", "Simulation", "Trace", "draw_scenario"]
