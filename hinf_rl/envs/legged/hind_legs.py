"""A quadruped that stands on its hind legs and follows velocity commands while it is pushed.

Commands, velocities and the disturbance are given in the heading frame of
`hinf_rl.envs.legged.upright`: x where the belly faces, z up. The disturbance is a force on the
trunk's centre of mass in newtons, held for the whole control step.
"""

# MuJoCo's compiled module carries no types.
# pyright: reportAttributeAccessIssue=false

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from hinf_rl.envs.api import DisturbanceSpec, EnvSpec, State
from hinf_rl.envs.legged import kinematics, randomisation, symmetry, upright
from hinf_rl.envs.legged.commands import draw_command
from hinf_rl.envs.legged.control import delayed_targets, kicked
from hinf_rl.envs.legged.hind_config import HindLegsConfig
from hinf_rl.envs.legged.hind_rewards import HindMotion, auxiliary_terms, task_terms, term_names
from hinf_rl.envs.legged.mjcf import build_mjcf
from hinf_rl.envs.legged.robots import QuadrupedSpec, get_robot
from hinf_rl.envs.legged.velocity import pd_torque
from hinf_rl.envs.physics.api import PhysicsState
from hinf_rl.envs.physics.make import make_physics
from hinf_rl.types import Array

# A foot, a knee or the trunk counts as touching the ground within this distance (m).
_CONTACT_M = 0.005
# From the knee's axis to the surface of the leg (m).
_KNEE_RADIUS_M = 0.01
_ACTION_LIMIT = 100.0
_FORCE_SCALE = 0.01  # per N, in the critic's observation
_FRONT, _HIND = slice(0, 2), slice(2, 4)


class HindLegsState(NamedTuple):
    """Simulator state and what the task remembers of the last steps.

    Attributes:
      simulation: the physics.
      command: [3] forward and lateral speed (m/s), yaw rate (rad/s), heading frame.
      action, previous_action: [12] last action and the one before.
      force: [3] N, heading frame, applied during the last step.
      time_s: [] since the episode began.
    """

    simulation: PhysicsState
    command: Array
    action: Array
    previous_action: Array
    force: Array
    time_s: Array

    @property
    def qpos(self) -> Array:
        """[19] trunk position (m), attitude, joint angles (rad)."""
        return self.simulation.qpos

    @property
    def qvel(self) -> Array:
        """[18] trunk velocity (world m/s, body rad/s), joint velocities (rad/s)."""
        return self.simulation.qvel


class HindLegsEnv:
    """The hind-leg task of one robot.

    The policy's observation is laid out like the velocity task's, one step of 45 numbers;
    `hinf_rl.envs.wrappers` stacks the history. The critic also sees the velocity in the heading
    frame, force, height, foot contacts and how much of the time to rise is left.

    Args:
      config: settings of the task.
      robot: a robot of one's own; None takes the one that `config.robot` names.
    """

    def __init__(self, config: HindLegsConfig, robot: QuadrupedSpec | None = None) -> None:
        self.config = config
        self._four_legged = robot or get_robot(config.robot)
        # Zero action asks for the stance instead of the four-legged pose.
        self.robot = dataclasses.replace(
            self._four_legged,
            default_pose=config.pose,
            action_scale=config.action_scale or self._four_legged.action_scale,
        )
        self.stance = upright.balanced_stance(self.robot, np.asarray(config.pose))
        self.stiffness = config.stiffness or self.robot.stiffness
        self.damping = config.damping or self.robot.damping
        self.model = self._make_model()
        self.physics = make_physics(
            config.physics,
            self.model,
            fields=randomisation.model_fields(self.model),
            force_body="trunk",
            num_threads=config.num_threads,
            mjx=config.mjx,
        )
        self._pose = np.asarray(config.pose, np.float32)
        self._torque_limit = np.tile(np.asarray(self.robot.torque_limit, np.float32), 4)
        low, high = np.tile(np.asarray(self.robot.joint_range, np.float32), (4, 1)).T
        self._joint_middle, self._joint_reach = (low + high) / 2, (high - low) / 2
        self._vertical = np.asarray(self.stance.vertical, np.float32)
        task_max = config.reward.task_max * config.dt_s
        self.spec = EnvSpec(
            name=f"{self.robot.name}-hind-legs",
            policy_size=45,
            privileged_size=45 + 3 + 3 + 1 + 4 + 1,
            action_size=12,
            disturbance=DisturbanceSpec(
                size=3,
                limit=config.push_limit_n,
                unit="N",
                meaning="force on the trunk's centre of mass, heading frame (x forward, z up)",
            ),
            dt_s=config.dt_s,
            episode_length=round(config.episode_length_s / config.dt_s),
            task_reward_max=task_max,
            task_reward_scale=task_max,
            mirror=symmetry.hind_legs_mirror(),
        )

    def _make_model(self) -> mujoco.MjModel:
        text = build_mjcf(
            self.robot,
            timestep=self.config.physics_dt_s,
            collisions=self.config.collisions,
            **self.config.common.solver,
        )
        model = mujoco.MjModel.from_xml_string(text)
        model.actuator_gainprm[:, 0] = self.stiffness
        model.actuator_biasprm[:, 1] = -self.stiffness
        model.actuator_biasprm[:, 2] = -self.damping
        return model

    def heading_of(self, qpos: Array) -> Array:
        """Returns the heading [...] in rad at positions [..., 19]: the disturbance's frame."""
        return upright.heading_angle(qpos[..., 3:7])

    def reset(self, key: Array) -> State:
        """Starts an episode with a fresh command and fresh parameters, see `config.start`."""
        key_start, key_parameters, key_command, key_noise, next_key = jax.random.split(key, 5)
        drawn = randomisation.draw(key_parameters, self.robot, self.config.common)
        qpos, qvel = self._initial_motion(key_start)
        zeros, zero = jnp.zeros(12, jnp.float32), jnp.zeros((), jnp.float32)
        physics = HindLegsState(
            simulation=self.physics.initial_state(qpos, qvel),
            command=draw_command(key_command, self.config.common)[0],
            action=zeros,
            previous_action=zeros,
            force=jnp.zeros(3, jnp.float32),
            time_s=zero,
        )
        metrics = ("velocity_error", "yaw_error", "lean_error", "nonfinite")
        terms = tuple(f"reward_{name}" for name in term_names(self.config.reward))
        return State(
            physics=physics,
            observation=self._observe(physics, key_noise),
            reward=zero,
            task_reward=zero,
            terminated=jnp.zeros((), bool),
            truncated=jnp.zeros((), bool),
            metrics=dict.fromkeys((*metrics, *terms), zero),
            parameters=drawn,
            key=next_key,
        )

    def step(self, state: State, action: Array, disturbance: Array | None = None) -> State:
        """Advances one control step; see `hinf_rl.envs.api.Env`.

        Args:
          state: the state to advance.
          action: [12] joint target offsets from the stance in units of the action scale.
          disturbance: [3] force on the trunk in N, heading frame.
        """
        key_delay, key_command, key_noise, key_push, next_key = jax.random.split(state.key, 5)
        before: HindLegsState = state.physics
        force = jnp.zeros(3, jnp.float32) if disturbance is None else disturbance
        action = jnp.clip(action, -_ACTION_LIMIT, _ACTION_LIMIT)
        simulation = self._simulate(before, action, force, state.parameters, key_delay)
        if self.config.randomise:
            settings = self.config.randomisation
            simulation = kicked(
                simulation, before.time_s, key_push, settings=settings, dt_s=self.spec.dt_s
            )
        motion = self._motion(before, simulation, action, state.parameters)
        physics = HindLegsState(
            simulation=simulation,
            command=self._next_command(before, key_command),
            action=action,
            previous_action=before.action,
            force=force,
            time_s=before.time_s + self.spec.dt_s,
        )
        task = task_terms(motion, self.config.reward)
        auxiliary = auxiliary_terms(motion, self.config.reward, dt_s=self.spec.dt_s)
        zero = jnp.zeros((), jnp.float32)
        task_reward = self.spec.dt_s * sum(task.values(), zero)
        return dataclasses.replace(
            state,
            physics=physics,
            observation=self._observe(physics, key_noise),
            reward=task_reward + self.spec.dt_s * sum(auxiliary.values(), zero),
            task_reward=task_reward,
            terminated=self._has_fallen(physics),
            metrics={
                **_errors(motion),
                "nonfinite": simulation.nonfinite,
                **{f"reward_{name}": value for name, value in (task | auxiliary).items()},
            },
            key=next_key,
        )

    def _initial_motion(self, key: Array) -> tuple[Array, Array]:
        """First positions [19] and velocities [18]; upright, the lowest sole is on the ground."""
        if self.config.start == "four_legs":
            return randomisation.initial_motion(key, self._four_legged, self.config.common)
        qpos, qvel = randomisation.initial_motion(key, self.robot, self.config.common)
        qpos = qpos.at[3:7].set(upright.pitched(self.heading_of(qpos), self.stance.pitch_rad))
        lowest = jnp.min(upright.sole_heights(self.robot, qpos)[_HIND])
        return qpos.at[2].add(-lowest), qvel

    def _simulate(
        self,
        before: HindLegsState,
        action: Array,
        force: Array,
        parameters: randomisation.Drawn,
        key: Array,
    ) -> PhysicsState:
        target = self._target(action)
        if self.config.randomise and self.config.randomisation.action_delay:
            target = delayed_targets(key, target, self._target(before.action), self.config.substeps)
        heading = self.heading_of(before.qpos)
        push = kinematics.rotate_heading(heading, force)
        wrench = jnp.concatenate([push, jnp.zeros(3, jnp.float32)])
        return self.physics.step(
            before.simulation, target, wrench, parameters.model, self.config.substeps
        )

    def _target(self, action: Array) -> Array:
        return jnp.asarray(self._pose + self.robot.action_scale * action)

    def _motion(
        self,
        before: HindLegsState,
        simulation: PhysicsState,
        action: Array,
        parameters: randomisation.Drawn,
    ) -> HindMotion:
        qpos, qvel = simulation.qpos, simulation.qvel
        joints, rates = qpos[7:], qvel[6:]
        heading = self.heading_of(qpos)
        torque = pd_torque(
            self._target(action),
            joints,
            rates,
            stiffness=self.stiffness * parameters.stiffness_factor,
            damping=self.damping * parameters.damping_factor,
            limit=self._torque_limit,
        )
        beyond = jnp.abs(joints - self._joint_middle)
        beyond -= self.config.reward.soft_limit * self._joint_reach
        return HindMotion(
            command=before.command,
            velocity=kinematics.rotate_heading(-heading, qvel[:3]),
            turn_rate=kinematics.rotate_heading(-heading, kinematics.rotate(qpos[3:7], qvel[3:6])),
            uprightness=self._uprightness(qpos),
            shortfall=jnp.maximum(self.stance.height_m - qpos[2], 0.0),
            front_contact=upright.sole_heights(self.robot, qpos)[_FRONT] < _CONTACT_M,
            pose_error=joints - self._pose,
            limit_excess=jnp.maximum(beyond, 0.0),
            joint_velocity=rates,
            previous_joint_velocity=before.qvel[6:],
            torque=torque,
            action=action,
            previous_action=before.action,
            earlier_action=before.previous_action,
        )

    def _uprightness(self, qpos: Array) -> Array:
        """[] cosine of the angle between the trunk and its stance, whatever the heading."""
        return -jnp.dot(self._vertical, _gravity(qpos[3:7]))

    def _has_fallen(self, physics: HindLegsState) -> Array:
        """Trunk or a knee on the ground; after the time to rise, a front foot or a lean too."""
        qpos = physics.qpos
        clearance = kinematics.trunk_clearance(self.robot, qpos[2], qpos[3:7])
        knees = upright.knee_heights(self.robot, qpos) - _KNEE_RADIUS_M
        lowest = jnp.minimum(clearance, jnp.min(knees))
        leans = self._uprightness(qpos) < np.cos(self.config.max_lean_rad)
        on_fours = jnp.any(upright.sole_heights(self.robot, qpos)[_FRONT] < _CONTACT_M)
        must_stand = self._time_to_rise(physics) <= 0.0
        return (lowest < _CONTACT_M) | (must_stand & (leans | on_fours))

    def _time_to_rise(self, physics: HindLegsState) -> Array:
        # Half a step of slack: a sum of float32 steps may stay just below the time.
        left = self.config.grace_s - physics.time_s
        return jnp.where(left > 0.5 * self.spec.dt_s, left, 0.0)

    def _observe(self, physics: HindLegsState, key: Array) -> dict[str, Array]:
        qpos, qvel = physics.qpos, physics.qvel
        command = physics.command * jnp.array([2.0, 2.0, 0.25], jnp.float32)
        sensed = jnp.concatenate(
            [0.25 * qvel[3:6], _gravity(qpos[3:7]), qpos[7:] - self._pose, 0.05 * qvel[6:]]
        )
        if self.config.randomise:
            scale = randomisation.observation_noise(self.config.randomisation)
            sensed += scale * jax.random.uniform(key, sensed.shape, minval=-1.0, maxval=1.0)
        policy = jnp.concatenate([command, sensed, physics.action])
        policy = jnp.clip(policy, -_ACTION_LIMIT, _ACTION_LIMIT)
        privileged = [
            policy,
            2.0 * kinematics.rotate_heading(-self.heading_of(qpos), qvel[:3]),
            _FORCE_SCALE * physics.force,
            5.0 * jnp.clip(qpos[2:3] - self.stance.height_m, -1.0, 1.0),
            (upright.sole_heights(self.robot, qpos) < _CONTACT_M).astype(jnp.float32),
            self._time_to_rise(physics)[None],
        ]
        return {"policy": policy, "privileged": jnp.concatenate(privileged)}

    def _next_command(self, before: HindLegsState, key: Array) -> Array:
        steps = max(1, round(self.config.command_interval_s / self.spec.dt_s))
        index = jnp.round(before.time_s / self.spec.dt_s).astype(jnp.int32) + 1
        drawn, _ = draw_command(key, self.config.common)
        return jnp.where(index % steps == 0, drawn, before.command)


def _errors(motion: HindMotion) -> dict[str, Array]:
    return {
        "velocity_error": jnp.linalg.norm(motion.command[:2] - motion.velocity[:2]),
        "yaw_error": jnp.abs(motion.command[2] - motion.turn_rate[2]),
        "lean_error": jnp.arccos(jnp.clip(motion.uprightness, -1.0, 1.0)),
    }


def _gravity(attitude: Array) -> Array:
    return kinematics.rotate_inverse(attitude, jnp.array([0.0, 0.0, -1.0], jnp.float32))


__all__ = ["HindLegsEnv", "HindLegsState"]
