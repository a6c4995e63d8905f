import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl.envs.legged.config import RewardConfig, VelocityConfig
from hinf_rl.envs.legged.robots import ROBOTS
from hinf_rl.envs.legged.symmetry import velocity_mirror
from hinf_rl.envs.legged.velocity import VelocityEnv

# Everything on that a reward can see.
REWARD = RewardConfig(torque=-1e-4, feet_air_time=1.0, pose=-0.1)
CONFIG = VelocityConfig(randomise=False, reward=REWARD)


def symmetric(robot):
    """The robot with its trunk's mass in the sagittal plane, and hips that swing evenly."""
    (x, _, z), (xx, yy, zz, _, xz, _) = robot.trunk.com, robot.trunk.inertia
    trunk = dataclasses.replace(robot.trunk, com=(x, 0.0, z), inertia=(xx, yy, zz, 0.0, xz, 0.0))
    swing = min(abs(angle) for angle in robot.joint_range[0])
    ranges = ((-swing, swing), *robot.joint_range[1:])
    return dataclasses.replace(robot, trunk=trunk, joint_range=ranges)


def reflect(part, x):
    permutation, sign = part
    return jnp.asarray(sign, jnp.float32) * x[..., jnp.asarray(permutation, jnp.int32)]


def reflected_positions(qpos, action):
    """Mirror image of qpos: y and the rotations about x and z change sign."""
    root = qpos[:7] * jnp.array([1, -1, 1, 1, -1, 1, -1], jnp.float32)
    return jnp.concatenate([root, reflect(action, qpos[7:])])


def reflected_velocities(qvel, action):
    root = qvel[:6] * jnp.array([1, -1, 1, -1, 1, -1], jnp.float32)
    return jnp.concatenate([root, reflect(action, qvel[6:])])


def reflected(physics):
    """Mirror image of a `QuadrupedState`, from the geometry alone."""
    mirror = velocity_mirror()
    simulation = physics.simulation
    swap = jnp.array([1, 0, 3, 2], jnp.int32)
    return physics._replace(
        simulation=simulation._replace(
            qpos=reflected_positions(simulation.qpos, mirror.action),
            qvel=reflected_velocities(simulation.qvel, mirror.action),
            warmstart=reflected_velocities(simulation.warmstart, mirror.action),
        ),
        command=physics.command * jnp.array([1, -1, -1], jnp.float32),
        heading=-physics.heading,
        action=reflect(mirror.action, physics.action),
        previous_action=reflect(mirror.action, physics.previous_action),
        air_time=physics.air_time[swap],
        in_contact=physics.in_contact[swap],
        force=physics.force * jnp.array([1, -1, 1], jnp.float32),
    )


def test_reflecting_twice_changes_nothing():
    mirror = velocity_mirror()
    for part in (mirror.policy, mirror.privileged, mirror.action, mirror.disturbance):
        x = jnp.arange(1, len(part[0]) + 1, dtype=jnp.float32)
        np.testing.assert_array_equal(reflect(part, reflect(part, x)), x)


def test_hips_flip_and_legs_change_sides():
    # FL (hip, thigh, calf) takes FR's angles with the hip turned round.
    joints = jnp.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], jnp.float32)
    found = reflect(velocity_mirror().action, joints)
    np.testing.assert_array_equal(found, [-4, 5, 6, -1, 2, 3, -10, 11, 12, -7, 8, 9])


def test_sidewards_push_changes_sides():
    force = reflect(velocity_mirror().disturbance, jnp.array([1, 2, 3], jnp.float32))
    np.testing.assert_array_equal(force, [1, -2, 3])


@pytest.mark.parametrize("name", sorted(ROBOTS))
def test_a_symmetric_robot_lives_the_mirror_image(name):
    env = VelocityEnv(CONFIG, robot=symmetric(ROBOTS[name]))
    mirror, step = env.spec.mirror, jax.jit(env.step)
    state, touched = env.reset(jax.random.key(4)), 0.0
    for index in range(15):
        key_action, key_push = jax.random.split(jax.random.key(index))
        action = 0.5 * jax.random.normal(key_action, (12,), jnp.float32)
        push = jax.random.uniform(key_push, (3,), jnp.float32, -40.0, 40.0)
        image = step(
            dataclasses.replace(state, physics=reflected(state.physics)),
            reflect(mirror.action, action),
            reflect(mirror.disturbance, push),
        )
        state = step(state, action, push)
        for part in ("policy", "privileged"):
            np.testing.assert_allclose(
                image.observation[part],
                reflect(getattr(mirror, part), state.observation[part]),
                atol=2e-3,
            )
        for name_, value in state.metrics.items():
            np.testing.assert_allclose(image.metrics[name_], value, rtol=2e-2, atol=2e-3)
        np.testing.assert_allclose(image.task_reward, state.task_reward, atol=1e-4)
        touched += float(state.observation["privileged"][-4:].sum())
    assert touched > 10, "without contacts the comparison would prove little"
