import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hinf_rl.envs.legged.hind_config import HindRewardConfig
from hinf_rl.envs.legged.hind_rewards import (
    AUXILIARY_TERMS,
    TASK_TERMS,
    HindMotion,
    auxiliary_terms,
    task_terms,
    term_names,
)

CONFIG = HindRewardConfig()
_task = jax.jit(lambda motion: task_terms(motion, CONFIG))
_auxiliary = jax.jit(lambda motion: auxiliary_terms(motion, CONFIG, dt_s=0.02))


def vector(*values):
    return jnp.asarray(values, jnp.float32)


def ideal(command=(0.3, -0.1, 0.2)):
    """Upright at full height, moving as asked for, without effort."""
    still = jnp.zeros(12, jnp.float32)
    return HindMotion(
        command=vector(*command),
        velocity=vector(*command[:2], 0.0),
        turn_rate=vector(0.0, 0.0, command[2]),
        uprightness=jnp.float32(1.0),
        shortfall=jnp.float32(0.0),
        front_contact=jnp.zeros(2, bool),
        pose_error=still,
        limit_excess=still,
        joint_velocity=still,
        previous_joint_velocity=still,
        torque=still,
        action=still,
        previous_action=still,
        earlier_action=still,
    )


def total(motion):
    return float(sum(_task(motion).values()) + sum(_auxiliary(motion).values()))


def test_the_ideal_state_earns_the_maximum():
    task = _task(ideal())
    # 1.0 + 0.5 for tracking; alive 0.5 + upright 1.0 + height 0.5; no penalty.
    assert sum(task.values()) == pytest.approx(1.5) == pytest.approx(CONFIG.task_max)
    assert total(ideal()) == pytest.approx(3.5)


CHANGES = {
    "velocity": lambda m, s: m._replace(velocity=m.velocity + vector(s, 0, 0)),
    "sinking": lambda m, s: m._replace(velocity=m.velocity + vector(0, 0, s)),
    "turn_rate": lambda m, s: m._replace(turn_rate=m.turn_rate + vector(0, 0, s)),
    "leaning": lambda m, s: m._replace(turn_rate=m.turn_rate + vector(s, 0, 0)),
    "uprightness": lambda m, s: m._replace(uprightness=m.uprightness - abs(s)),
    "shortfall": lambda m, s: m._replace(shortfall=jnp.float32(abs(s))),
    "front_contact": lambda m, s: m._replace(front_contact=jnp.array([True, False])),
    "pose_error": lambda m, s: m._replace(pose_error=m.pose_error.at[2].set(s)),
    "limit_excess": lambda m, s: m._replace(limit_excess=m.limit_excess.at[7].set(abs(s))),
    "action": lambda m, s: m._replace(action=m.action.at[5].set(s)),
}


@given(name=st.sampled_from(sorted(CHANGES)), size=st.floats(0.05, 1.5), sign=st.booleans())
def test_no_departure_from_the_ideal_pays(name, size, sign):
    changed = CHANGES[name](ideal(), size if sign else -size)
    assert total(changed) < total(ideal()) - 1e-5
    assert 0.0 <= sum(_task(changed).values()) <= CONFIG.task_max + 1e-6


def test_tracking_by_hand():
    # |error|^2 = 0.3^2 + 0.4^2 = 0.25, one width; uprightness 0.8 counts 0.64.
    motion = ideal((0.0, 0.0, 0.0))._replace(
        velocity=vector(0.3, 0.4, 0.0), uprightness=jnp.float32(0.8)
    )
    found = _task(motion)
    assert found["tracking_linear"] == pytest.approx(0.64 * np.exp(-1.0), rel=1e-5)
    assert found["tracking_yaw"] == pytest.approx(0.64 * 0.5, rel=1e-5)


@pytest.mark.parametrize("uprightness", [0.0, -0.4, -1.0])
def test_the_task_is_not_done_on_four_legs_or_upside_down(uprightness):
    found = _task(ideal()._replace(uprightness=jnp.float32(uprightness)))
    assert sum(found.values()) == 0.0


def test_auxiliary_terms_by_hand():
    twelve = jnp.ones(12, jnp.float32)
    motion = ideal()._replace(
        velocity=vector(0.3, -0.1, 0.2),
        turn_rate=vector(1.0, 2.0, 0.2),
        uprightness=jnp.float32(0.0),
        shortfall=jnp.float32(0.1),
        front_contact=jnp.ones(2, bool),
        pose_error=0.5 * twelve,
        limit_excess=0.1 * twelve,
        joint_velocity=twelve,
        previous_joint_velocity=0.5 * twelve,
        torque=-2.0 * twelve,
        action=twelve,
        previous_action=0.5 * twelve,
        earlier_action=0.5 * twelve,
    )
    expected = {
        "alive": 0.5,
        "upright": 0.25,  # ((1 + 0) / 2)^2
        "height": 0.5 * np.exp(-1.0),  # a width short
        "front_contact": -0.1 * 2,
        "front_pose": -0.1 * 6 * 0.25,
        "joint_limits": -0.5 * 1.2,
        "vertical_velocity": -0.5 * 0.04,
        "lean_rate": -0.05 * 5.0,
        "joint_acceleration": -2.5e-7 * 12 * 25.0**2,
        "joint_power": -2e-5 * 24.0,
        "action_rate": -0.01 * 12 * 0.25,
        "smoothness": -0.005 * 12 * 0.25,  # 1 - 2 x 0.5 + 0.5
    }
    found = _auxiliary(motion)
    assert set(found) == set(expected) == set(AUXILIARY_TERMS)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-5), name


def test_a_term_without_scale_is_left_out():
    config = dataclasses.replace(CONFIG, front_pose=0.0)
    assert term_names(config) == TASK_TERMS + tuple(
        name for name in AUXILIARY_TERMS if name != "front_pose"
    )
    assert "front_pose" not in auxiliary_terms(ideal(), config, dt_s=0.02)
