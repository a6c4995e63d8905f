"""A quadruped that follows velocity commands on flat ground while its trunk is pushed.

The disturbance is a force on the trunk's centre of mass, in newtons, in the heading frame
(x where the trunk's yaw points, z up), held for the whole control step. It is given in the
heading frame because a disturber sees what the policy sees, which holds no compass.
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
from hinf_rl.envs.legged import kinematics, randomisation, symmetry
from hinf_rl.envs.legged.commands import draw_command, yaw_command
from hinf_rl.envs.legged.config import VelocityConfig
from hinf_rl.envs.legged.control import delayed_targets, kicked
from hinf_rl.envs.legged.mjcf import build_mjcf
from hinf_rl.envs.legged.rewards import Motion, auxiliary_terms, task_terms, term_names
from hinf_rl.envs.legged.robots import QuadrupedSpec, get_robot
from hinf_rl.envs.physics.api import PhysicsState
from hinf_rl.envs.physics.make import make_physics
from hinf_rl.types import Array, Numeric

# A foot or the trunk counts as touching the ground within this distance (m).
_CONTACT_M = 0.005
_ACTION_LIMIT = 100.0
_FORCE_SCALE = 0.01  # per N, in the critic's observation


class QuadrupedState(NamedTuple):
    """Simulator state and what the task remembers of the last steps.

    Attributes:
      simulation: the physics.
      command: [3] forward and lateral speed (m/s), yaw rate (rad/s).
      heading: [] commanded heading (rad).
      action, previous_action: [12] last action and the one before.
      air_time: [4] s since each foot left the ground.
      in_contact: [4] bool.
      force: [3] N, heading frame, applied during the last step.
      time_s: [] since the episode began.
    """

    simulation: PhysicsState
    command: Array
    heading: Array
    action: Array
    previous_action: Array
    air_time: Array
    in_contact: Array
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


class VelocityEnv:
    """The velocity task of one robot.

    The observation of the policy is one step of 45 numbers; `hinf_rl.envs.wrappers` stacks
    the history. The critic also sees linear velocity, force, height and foot contacts.

    Args:
      config: settings of the task.
      robot: a robot of one's own; None takes the one that `config.robot` names.
    """

    def __init__(self, config: VelocityConfig, robot: QuadrupedSpec | None = None) -> None:
        self.config = config
        self.robot = robot or get_robot(config.robot)
        self.stiffness = config.stiffness or self.robot.stiffness
        self.damping = config.damping or self.robot.damping
        self.model = mujoco.MjModel.from_xml_string(
            build_mjcf(
                self.robot,
                timestep=config.physics_dt_s,
                collisions=config.collisions,
                **config.solver,
            )
        )
        self.model.actuator_gainprm[:, 0] = self.stiffness
        self.model.actuator_biasprm[:, 1] = -self.stiffness
        self.model.actuator_biasprm[:, 2] = -self.damping
        self.physics = make_physics(
            config.physics,
            self.model,
            fields=randomisation.model_fields(self.model),
            force_body="trunk",
            num_threads=config.num_threads,
            mjx=config.mjx,
        )
        self._default_pose = np.asarray(self.robot.default_pose, np.float32)
        self._torque_limit = np.tile(np.asarray(self.robot.torque_limit, np.float32), 4)
        self.spec = EnvSpec(
            name=self.robot.name,
            policy_size=45,
            privileged_size=45 + 3 + 3 + 1 + 4,
            action_size=12,
            disturbance=DisturbanceSpec(
                size=3,
                limit=config.push_limit_n or self.robot.push_limit,
                unit="N",
                meaning="force on the trunk's centre of mass, heading frame (x forward, z up)",
            ),
            dt_s=config.dt_s,
            episode_length=round(config.episode_length_s / config.dt_s),
            task_reward_max=config.reward.task_max * config.dt_s,
            task_reward_scale=config.reward.task_max * config.dt_s,
            mirror=symmetry.velocity_mirror(),
        )

    def reset(self, key: Array) -> State:
        """Starts an episode near the default pose with a fresh command and fresh parameters."""
        key_start, key_parameters, key_command, key_noise, next_key = jax.random.split(key, 5)
        drawn = randomisation.draw(key_parameters, self.robot, self.config)
        qpos, qvel = randomisation.initial_motion(key_start, self.robot, self.config)
        command, heading = draw_command(key_command, self.config)
        zeros = jnp.zeros(12, jnp.float32)
        physics = QuadrupedState(
            simulation=self.physics.initial_state(qpos, qvel),
            command=yaw_command(command, heading, qpos[3:7], self.config),
            heading=heading,
            action=zeros,
            previous_action=zeros,
            air_time=jnp.zeros(4, jnp.float32),
            in_contact=jnp.zeros(4, bool),
            force=jnp.zeros(3, jnp.float32),
            time_s=jnp.zeros((), jnp.float32),
        )
        zero = jnp.zeros((), jnp.float32)
        terms = {"velocity_error": zero, "yaw_error": zero, "nonfinite": zero}
        return State(
            physics=physics,
            observation=self._observe(physics, key_noise),
            reward=zero,
            task_reward=zero,
            terminated=jnp.zeros((), bool),
            truncated=jnp.zeros((), bool),
            metrics=terms | {f"reward_{name}": zero for name in term_names(self.config.reward)},
            parameters=drawn,
            key=next_key,
        )

    def step(self, state: State, action: Array, disturbance: Array | None = None) -> State:
        """Advances one control step; see `hinf_rl.envs.api.Env`.

        Args:
          state: the state to advance.
          action: [12] joint target offsets in units of the robot's action scale.
          disturbance: [3] force on the trunk in N, heading frame.
        """
        key_delay, key_command, key_noise, key_push, next_key = jax.random.split(state.key, 5)
        before: QuadrupedState = state.physics
        force = jnp.zeros(3, jnp.float32) if disturbance is None else disturbance
        action = jnp.clip(action, -_ACTION_LIMIT, _ACTION_LIMIT)
        simulation = self._simulate(before, action, force, state.parameters, key_delay)
        simulation = self._push(simulation, before.time_s, key_push)
        physics, motion = self._advance(before, simulation, action, force, state.parameters)
        task = task_terms(motion, self.config.reward)
        auxiliary = auxiliary_terms(
            motion, self.config.reward, dt_s=self.spec.dt_s, default_pose=self._default_pose
        )
        task_reward = self.spec.dt_s * sum(task.values(), jnp.zeros((), jnp.float32))
        reward = task_reward + self.spec.dt_s * sum(auxiliary.values(), jnp.zeros((), jnp.float32))
        velocity_error = jnp.linalg.norm(motion.command[:2] - motion.linear_velocity[:2])
        physics = self._next_command(physics, key_command)
        terms = {f"reward_{name}": value for name, value in (task | auxiliary).items()}
        return dataclasses.replace(
            state,
            physics=physics,
            observation=self._observe(physics, key_noise),
            reward=reward,
            task_reward=task_reward,
            terminated=self._has_fallen(simulation),
            metrics={
                "velocity_error": velocity_error,
                "yaw_error": jnp.abs(motion.command[2] - motion.angular_velocity[2]),
                "nonfinite": simulation.nonfinite,
                **terms,
            },
            key=next_key,
        )

    def _simulate(
        self,
        before: QuadrupedState,
        action: Array,
        force: Array,
        parameters: randomisation.Drawn,
        key: Array,
    ) -> PhysicsState:
        target = jnp.asarray(self._default_pose + self.robot.action_scale * action)
        if self.config.randomise and self.config.randomisation.action_delay:
            previous = jnp.asarray(self._default_pose + self.robot.action_scale * before.action)
            target = delayed_targets(key, target, previous, self.config.substeps)
        yaw = kinematics.yaw_angle(before.qpos[3:7])
        wrench = jnp.concatenate([kinematics.rotate_heading(yaw, force), jnp.zeros(3, jnp.float32)])
        return self.physics.step(
            before.simulation, target, wrench, parameters.model, self.config.substeps
        )

    def _push(self, simulation: PhysicsState, time_s: Array, key: Array) -> PhysicsState:
        if not self.config.randomise:
            return simulation
        settings = self.config.randomisation
        return kicked(simulation, time_s, key, settings=settings, dt_s=self.spec.dt_s)

    def _advance(
        self,
        before: QuadrupedState,
        simulation: PhysicsState,
        action: Array,
        force: Array,
        parameters: randomisation.Drawn,
    ) -> tuple[QuadrupedState, Motion]:
        qpos, qvel = simulation.qpos, simulation.qvel
        attitude, joints, rates = qpos[3:7], qpos[7:], qvel[6:]
        feet, jacobians = kinematics.leg_kinematics(self.robot, joints)
        leg_rates = rates.reshape(4, 1, 3)
        foot_velocity = jnp.sum(jacobians * leg_rates, axis=-1)
        foot_velocity += jnp.cross(jnp.broadcast_to(qvel[3:6], feet.shape), feet)
        foot_height = qpos[2] + kinematics.rotate(attitude, feet)[:, 2] - self.robot.foot_radius
        in_contact = foot_height < _CONTACT_M
        air_time = before.air_time + self.spec.dt_s
        target = self._default_pose + self.robot.action_scale * action
        torque = pd_torque(
            target,
            joints,
            rates,
            stiffness=self.stiffness * parameters.stiffness_factor,
            damping=self.damping * parameters.damping_factor,
            limit=self._torque_limit,
        )
        motion = Motion(
            command=before.command,
            linear_velocity=kinematics.rotate_inverse(attitude, qvel[:3]),
            angular_velocity=qvel[3:6],
            gravity=_gravity(attitude),
            height=qpos[2],
            joints=joints,
            joint_velocity=rates,
            previous_joint_velocity=before.qvel[6:],
            torque=torque,
            action=action,
            previous_action=before.action,
            earlier_action=before.previous_action,
            foot_position=feet,
            foot_velocity=foot_velocity,
            landed=in_contact & ~before.in_contact,
            air_time=air_time,
        )
        after = before._replace(
            simulation=simulation,
            action=action,
            previous_action=before.action,
            air_time=jnp.where(in_contact, 0.0, air_time),
            in_contact=in_contact,
            force=force,
            time_s=before.time_s + self.spec.dt_s,
        )
        return after, motion

    def _has_fallen(self, simulation: PhysicsState) -> Array:
        clearance = kinematics.trunk_clearance(self.robot, simulation.qpos[2], simulation.qpos[3:7])
        return clearance < _CONTACT_M

    def _observe(self, physics: QuadrupedState, key: Array) -> dict[str, Array]:
        qpos, qvel = physics.qpos, physics.qvel
        command = physics.command * jnp.array([2.0, 2.0, 0.25], jnp.float32)
        sensed = jnp.concatenate(
            [
                0.25 * qvel[3:6],
                _gravity(qpos[3:7]),
                qpos[7:] - self._default_pose,
                0.05 * qvel[6:],
            ]
        )
        if self.config.randomise:
            scale = randomisation.observation_noise(self.config.randomisation)
            sensed += scale * jax.random.uniform(key, sensed.shape, minval=-1.0, maxval=1.0)
        policy = jnp.concatenate([command, sensed, physics.action])
        policy = jnp.clip(policy, -_ACTION_LIMIT, _ACTION_LIMIT)
        velocity = kinematics.rotate_inverse(qpos[3:7], qvel[:3])
        height = 5.0 * jnp.clip(qpos[2:3] - 0.5, -1.0, 1.0)
        contacts = physics.in_contact.astype(jnp.float32)
        privileged = [policy, 2.0 * velocity, _FORCE_SCALE * physics.force, height, contacts]
        return {"policy": policy, "privileged": jnp.concatenate(privileged)}

    def _next_command(self, physics: QuadrupedState, key: Array) -> QuadrupedState:
        steps = max(1, round(self.config.command_interval_s / self.spec.dt_s))
        index = jnp.round(physics.time_s / self.spec.dt_s).astype(jnp.int32)
        is_due = index % steps == 0
        command, heading = draw_command(key, self.config)
        command = jnp.where(is_due, command, physics.command)
        heading = jnp.where(is_due, heading, physics.heading)
        command = yaw_command(command, heading, physics.qpos[3:7], self.config)
        return physics._replace(command=command, heading=heading)


def pd_torque(
    target: Array | np.ndarray,
    joints: Array,
    joint_velocity: Array,
    *,
    stiffness: Numeric,
    damping: Numeric,
    limit: Array | np.ndarray,
) -> Array:
    """Joint torques clip(kp (target - q) - kd qdot, -limit, limit) in Nm.

    Args:
      target: [12] angles asked for (rad).
      joints: [12] angles (rad).
      joint_velocity: [12] rad/s.
      stiffness: [] Nm/rad.
      damping: [] Nm s/rad.
      limit: [12] Nm.
    """
    return jnp.clip(stiffness * (target - joints) - damping * joint_velocity, -limit, limit)


def _gravity(attitude: Array) -> Array:
    return kinematics.rotate_inverse(attitude, jnp.array([0.0, 0.0, -1.0], jnp.float32))


__all__ = ["QuadrupedState", "VelocityEnv", "pd_torque"]
