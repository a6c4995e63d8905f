import functools

import jax
import mujoco
import numpy as np
import pytest

from hinf_rl.envs.legged import randomisation
from hinf_rl.envs.legged.config import RandomisationConfig, VelocityConfig
from hinf_rl.envs.legged.mjcf import build_mjcf
from hinf_rl.envs.legged.robots import LEGS
from hinf_rl.envs.physics.native import NativePhysics
from hinf_rl.errors import UserError

COUNT = 2000


@functools.cache
def draws(robot, config):
    keys = jax.random.split(jax.random.key(0), COUNT)
    draw = functools.partial(randomisation.draw, robot=robot, config=config)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(draw))(keys))


@functools.cache
def starts(robot, config):
    keys = jax.random.split(jax.random.key(1), COUNT)
    start = functools.partial(randomisation.initial_motion, robot=robot, config=config)
    return [np.asarray(x) for x in jax.jit(jax.vmap(start))(keys)]


def model_with(robot, values):
    """A model into which the drawn values were written, field by field."""
    model = mujoco.MjModel.from_xml_string(build_mjcf(robot))
    values = iter(values)
    for name, indices in randomisation.model_fields(model):
        for index in indices:
            getattr(model, name).reshape(-1)[index] = next(values)
    assert next(values, None) is None
    return model


def assert_spans(values, low, high):
    """Uniform on [low, high]: inside, and close to both ends (2000 draws miss 1 % by e^-20)."""
    tolerance = 1e-5 * max(abs(low), abs(high))
    assert values.min() >= low - tolerance and values.max() <= high + tolerance
    margin = 0.01 * (high - low)
    assert values.min() < low + margin and values.max() > high - margin


def test_nominal_parameters_are_those_of_the_model(robot):
    model = mujoco.MjModel.from_xml_string(build_mjcf(robot))
    physics = NativePhysics(model, fields=randomisation.model_fields(model))
    drawn = randomisation.draw(jax.random.key(0), robot, VelocityConfig(randomise=False))
    np.testing.assert_allclose(drawn.model, physics.nominal_parameters(), rtol=1e-7)
    assert (drawn.friction, drawn.payload_kg) == (1.0, 0.0)
    assert (drawn.stiffness_factor, drawn.damping_factor) == (1.0, 1.0)


def test_parameters_span_their_ranges(robot):
    drawn = draws(robot, VelocityConfig())
    assert_spans(drawn.payload_kg, -1.0, 2.0)
    assert_spans(drawn.friction, 0.2, 1.25)
    assert_spans(drawn.stiffness_factor, 0.9, 1.1)
    assert_spans(drawn.damping_factor, 0.9, 1.1)
    for axis in range(3):
        assert_spans(drawn.model[:, 1 + axis] - robot.trunk.com[axis], -0.05, 0.05)


def test_parameters_are_drawn_independently(robot):
    drawn = draws(robot, VelocityConfig())
    columns = [drawn.payload_kg, drawn.friction, drawn.stiffness_factor, drawn.damping_factor]
    correlation = np.corrcoef([*columns, *drawn.model[:, 1:4].T])
    # Standard error 1 / sqrt(2000) = 0.022.
    assert np.abs(correlation - np.eye(7)).max() < 0.09


def test_what_is_drawn_reaches_the_right_entries_of_the_model(robot):
    config = VelocityConfig(stiffness=77.0, damping=1.5)
    drawn = jax.tree.map(lambda x: x[3], draws(robot, config))
    model = model_with(robot, drawn.model)
    np.testing.assert_allclose(model.body("trunk").mass, robot.trunk.mass + drawn.payload_kg)
    for leg in LEGS:
        assert model.geom(f"{leg}_foot").friction[0] == drawn.friction
    assert model.geom("floor").friction[0] == model.geom("trunk").friction[0] == 1.0
    kp, kd = 77.0 * drawn.stiffness_factor, 1.5 * drawn.damping_factor
    np.testing.assert_allclose(model.actuator_gainprm[:, 0], kp, rtol=1e-6)
    np.testing.assert_allclose(model.actuator_biasprm[:, 1], -kp, rtol=1e-6)
    np.testing.assert_allclose(model.actuator_biasprm[:, 2], -kd, rtol=1e-6)
    np.testing.assert_array_equal(model.actuator_biasprm[:, 0], 0.0)


def soles(robot, qpos):
    model = mujoco.MjModel.from_xml_string(build_mjcf(robot))
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_kinematics(model, data)
    return [data.geom(f"{leg}_foot").xpos[2] - robot.foot_radius for leg in LEGS]


@pytest.mark.parametrize("randomise", [True, False])
def test_episodes_start_level_with_the_lowest_sole_just_off_the_ground(robot, randomise):
    qpos, _ = starts(robot, VelocityConfig(randomise=randomise))
    for row in qpos[:20]:
        np.testing.assert_allclose(min(soles(robot, row)), 0.01, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(qpos[:, 3:7], axis=1), 1.0, atol=1e-6)
    np.testing.assert_array_equal(qpos[:, 4:6], 0.0)
    assert_spans(2 * np.arctan2(qpos[:, 6], qpos[:, 3]), -np.pi, np.pi)


def test_starting_joints_and_velocities_span_their_ranges(robot):
    qpos, qvel = starts(robot, VelocityConfig())
    limits = np.tile(np.float32(robot.joint_range), (4, 1))
    for joint, default in enumerate(robot.default_pose):
        low, high = np.clip(sorted((0.5 * default, 1.5 * default)), *limits[joint])
        if default == 0.0:
            assert (qpos[:, 7 + joint] == 0.0).all()
        else:
            assert_spans(qpos[:, 7 + joint], low, high)
    for axis in range(6):
        assert_spans(qvel[:, axis], -0.5, 0.5)
    np.testing.assert_array_equal(qvel[:, 6:], 0.0)


def test_nominal_episodes_start_at_rest_in_the_default_pose(robot):
    qpos, qvel = starts(robot, VelocityConfig(randomise=False))
    np.testing.assert_array_equal(qpos[:, 7:], np.tile(np.float32(robot.default_pose), (COUNT, 1)))
    np.testing.assert_array_equal(qvel, 0.0)


def test_noise_has_the_scale_of_the_observation():
    # Angular velocity 0.2 x 0.25, gravity 0.05, joint angles 0.01, joint velocities 1.5 x 0.05.
    noise = randomisation.observation_noise(RandomisationConfig())
    expected = [0.05] * 3 + [0.05] * 3 + [0.01] * 12 + [0.075] * 12
    np.testing.assert_allclose(noise, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"payload_kg": (2.0, -1.0)}, r"payload_kg must be \(low, high\), got \(2.0, -1.0\)"),
        ({"friction": (-0.1, 1.0)}, "friction must be >= 0"),
        ({"damping_factor": (0.0, 1.0)}, "must be positive"),
        ({"initial_joint_factor": (1.5, 0.5)}, "initial_joint_factor must be"),
        ({"push_interval_s": 0.0}, "push_interval_s must be positive"),
    ],
)
def test_ranges_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        RandomisationConfig(**settings)
