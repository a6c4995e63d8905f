import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hinf_rl.envs.legged.config import RewardConfig
from hinf_rl.envs.legged.rewards import (
    AUXILIARY_TERMS,
    TASK_TERMS,
    Motion,
    auxiliary_terms,
    task_terms,
    term_names,
)

DT = 0.02
ALL_ON = RewardConfig(**{name: 1.0 for name in (*TASK_TERMS, *AUXILIARY_TERMS)})
SHAPES = Motion(
    command=(3,),
    linear_velocity=(3,),
    angular_velocity=(3,),
    gravity=(3,),
    height=(),
    joints=(12,),
    joint_velocity=(12,),
    previous_joint_velocity=(12,),
    torque=(12,),
    action=(12,),
    previous_action=(12,),
    earlier_action=(12,),
    foot_position=(4, 3),
    foot_velocity=(4, 3),
    landed=(4,),
    air_time=(4,),
)


def random_motion(seed, scale=1.0) -> Motion:
    random = np.random.default_rng(seed)
    motion = Motion(*(scale * random.normal(size=shape) for shape in SHAPES))
    return motion._replace(landed=np.array([True, False, True, False]))


def on_device(motion) -> Motion:
    arrays = Motion(*(jnp.asarray(value, jnp.float32) for value in motion))
    return arrays._replace(landed=jnp.asarray(motion.landed))


def auxiliary(motion, config=ALL_ON, pose=0.0):
    return auxiliary_terms(
        on_device(motion), config, dt_s=DT, default_pose=jnp.full(12, pose, jnp.float32)
    )


def still() -> Motion:
    """A robot that stands as asked: no term but those of staying up sees anything."""
    zeros = Motion(*(np.zeros(shape) for shape in SHAPES))
    return zeros._replace(landed=np.zeros(4, bool), height=np.array(0.3))


def test_perfect_tracking_earns_the_maximum():
    config = RewardConfig(tracking_linear=1.0, tracking_yaw=0.5)
    terms = task_terms(on_device(still()), config)
    assert float(sum(terms.values())) == config.task_max == 1.5


def test_tracking_by_hand():
    # Errors (0.3, -0.4) m/s: exp(-(0.09 + 0.16) / 0.25) = exp(-1). Yaw error 1: 0.5 exp(-4).
    motion = still()._replace(
        command=np.array([0.3, 0.0, 1.0]), linear_velocity=np.array([0.0, 0.4, 9.0])
    )
    terms = task_terms(on_device(motion), RewardConfig())
    np.testing.assert_allclose(terms["tracking_linear"], np.exp(-1.0), rtol=1e-6)
    np.testing.assert_allclose(terms["tracking_yaw"], 0.5 * np.exp(-4.0), rtol=1e-6)


@given(seed=st.integers(0, 10_000), scale=st.floats(0.0, 100.0))
@settings(deadline=None)
def test_task_reward_lies_between_zero_and_its_maximum(seed, scale):
    config = RewardConfig(tracking_linear=0.7, tracking_yaw=1.1)
    terms = task_terms(on_device(random_motion(seed, scale)), config)
    assert tuple(terms) == TASK_TERMS
    assert 0.0 <= float(terms["tracking_linear"]) <= np.float32(0.7)
    assert 0.0 <= float(terms["tracking_yaw"]) <= np.float32(1.1)


def reference(m: Motion, config: RewardConfig, pose: float) -> dict[str, float]:
    """The table of terms, written down a second time in NumPy, term by term."""
    clearance = [
        (foot[2] - config.foot_clearance_target_m) ** 2 * np.hypot(speed[0], speed[1])
        for foot, speed in zip(m.foot_position, m.foot_velocity, strict=True)
    ]
    airborne = [
        t - config.air_time_target_s for t, hit in zip(m.air_time, m.landed, strict=True) if hit
    ]
    return {
        "alive": 1.0,
        "vertical_velocity": m.linear_velocity[2] ** 2,
        "roll_pitch_rate": m.angular_velocity[0] ** 2 + m.angular_velocity[1] ** 2,
        "orientation": m.gravity[0] ** 2 + m.gravity[1] ** 2,
        "joint_acceleration": np.sum(((m.previous_joint_velocity - m.joint_velocity) / DT) ** 2),
        "joint_power": np.abs(m.joint_velocity) @ np.abs(m.torque),
        "base_height": (m.height - config.base_height_target_m) ** 2,
        "foot_clearance": sum(clearance),
        "action_rate": np.linalg.norm(m.action - m.previous_action) ** 2,
        "smoothness": np.linalg.norm(m.action - 2 * m.previous_action + m.earlier_action) ** 2,
        "torque": m.torque @ m.torque,
        "feet_air_time": sum(airborne) * (np.linalg.norm(m.command) > 0.1),
        "pose": np.linalg.norm(m.joints - pose) ** 2,
    }


@pytest.mark.parametrize("seed", range(4))
def test_every_term_is_that_of_the_table(seed):
    motion = random_motion(seed)
    found, expected = auxiliary(motion, pose=0.3), reference(motion, ALL_ON, 0.3)
    assert tuple(found) == AUXILIARY_TERMS
    for name in AUXILIARY_TERMS:
        np.testing.assert_allclose(found[name], expected[name], rtol=2e-5, err_msg=name)


def test_default_scales_are_the_published_ones():
    # Public table of the Aliengo and A1 velocity tasks; `alive` is our own.
    config = RewardConfig()
    scales = {name: getattr(config, name) for name in term_names(config)}
    assert scales == {
        "tracking_linear": 1.0,
        "tracking_yaw": 0.5,
        "alive": 0.45,
        "vertical_velocity": -2.0,
        "roll_pitch_rate": -0.05,
        "orientation": -0.2,
        "joint_acceleration": -2.5e-7,
        "joint_power": -2e-5,
        "base_height": -1.0,
        "foot_clearance": -0.01,
        "action_rate": -0.01,
        "smoothness": -0.01,
    }


@given(seed=st.integers(0, 10_000))
@settings(deadline=None)
def test_default_auxiliary_terms_only_ever_cost(seed):
    terms = auxiliary(random_motion(seed), RewardConfig())
    assert terms.pop("alive") == np.float32(0.45)
    assert all(value <= 0.0 for value in terms.values())


def test_standing_as_asked_costs_nothing():
    terms = auxiliary(still(), RewardConfig())
    assert {name: float(v) for name, v in terms.items() if abs(v) > 1e-6} == {
        "alive": pytest.approx(0.45)
    }


def test_a_step_counts_only_while_one_is_asked_for():
    motion = still()._replace(landed=np.array([1, 0, 0, 1], bool), air_time=np.full(4, 0.7))
    config = RewardConfig(feet_air_time=1.0, air_time_target_s=0.5)
    assert float(auxiliary(motion, config)["feet_air_time"]) == 0.0
    motion = motion._replace(command=np.array([0.5, 0.0, 0.0]))
    # Two feet landed after 0.7 s each: 2 (0.7 - 0.5).
    np.testing.assert_allclose(auxiliary(motion, config)["feet_air_time"], 0.4, rtol=1e-5)


def test_terms_of_scale_zero_are_left_out():
    config = dataclasses.replace(RewardConfig(), smoothness=0.0, torque=-1e-4)
    terms = auxiliary(random_motion(0), config)
    assert "smoothness" not in terms and "torque" in terms
    assert term_names(config) == TASK_TERMS + tuple(terms)


def test_gradient_is_finite_where_feet_stand_still():
    def total(foot_velocity):
        motion = on_device(still())._replace(foot_velocity=foot_velocity)
        terms = auxiliary_terms(motion, ALL_ON, dt_s=DT, default_pose=jnp.zeros(12, jnp.float32))
        return sum(terms.values())

    assert np.isfinite(jax.grad(total)(jnp.zeros((4, 3), jnp.float32))).all()
