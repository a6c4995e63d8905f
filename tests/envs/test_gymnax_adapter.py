"""Gymnax environments as ours."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("gymnax")

from hinf_rl.envs import BatchEnv
from hinf_rl.envs.gymnax_adapter import GymnaxConfig, from_gymnax, gymnax, make_gymnax
from hinf_rl.errors import UserError


def pendulum_step(angle, rate, torque):
    """Gymnasium's Pendulum-v1: g = 10, m = l = 1, 50 ms."""
    torque = np.clip(torque, -2.0, 2.0)
    wrapped = (angle + np.pi) % (2 * np.pi) - np.pi
    reward = -(wrapped**2 + 0.1 * rate**2 + 0.001 * torque**2)
    rate = np.clip(rate + 0.05 * (15.0 * np.sin(angle) + 3.0 * torque), -8.0, 8.0)
    return angle + 0.05 * rate, rate, reward


def test_box_actions_are_scaled_and_the_disturbance_is_added_before():
    env = from_gymnax("Pendulum-v1", disturbance_limit=0.5)
    state = env.reset(jax.random.key(0))
    angle, rate = float(state.physics.theta), float(state.physics.theta_dot)
    for action, push in ((0.3, 0.0), (-0.6, 0.2), (5.0, -0.5)):
        # Half the range is 2 N m; actions are clipped to 1 first.
        torque = 2.0 * (np.clip(action, -1.0, 1.0) + push)
        angle, rate, reward = pendulum_step(angle, rate, torque)
        state = env.step(state, jnp.array([action], jnp.float32), jnp.array([push], jnp.float32))
        np.testing.assert_allclose(
            state.observation["policy"], [np.cos(angle), np.sin(angle), rate], rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(state.reward, reward, rtol=1e-4)
        np.testing.assert_allclose(state.observation["privileged"][3], push / 0.5)
    assert (env.spec.dt_s, env.spec.episode_length, env.spec.task_reward_max) == (0.05, 200, 0.0)
    # The scale makes the worst step cost 1: angle pi, rate 8, torque 2.
    worst = pendulum_step(np.pi - 1e-9, 8.0, 2.0)[2]
    np.testing.assert_allclose(env.spec.task_reward_scale, -worst, rtol=1e-6)


@pytest.mark.parametrize(("scores", "push", "choice"), [
    ((0.2, 0.1), (0.0, 0.0), 0),
    ((0.1, 0.2), (0.0, 0.0), 1),
    ((3.0, 2.0), (0.0, 0.0), 0),  # both are clipped to 1: the first of equals
    ((0.2, 0.1), (-0.1, 0.1), 1),  # the push turns the choice over
])  # fmt: skip
def test_the_largest_score_is_the_choice(scores, push, choice):
    env = from_gymnax("CartPole-v1")
    state = env.reset(jax.random.key(0))
    after = env.step(state, jnp.array(scores, jnp.float32), jnp.array(push, jnp.float32))
    # The cart gains speed in the direction of the force: choice 1 pushes to the right.
    gained = float(after.physics.x_dot - state.physics.x_dot)
    assert (gained > 0) == bool(choice)


def test_termination_and_time_limit_are_told_apart():
    env = from_gymnax("CartPole-v1", episode_length=5)
    batch = BatchEnv(env, 1)
    state = batch.reset(jax.random.key(0))
    right = jnp.array([[0.0, 1.0]], jnp.float32)
    for i in range(5):
        state, step = batch.step(state, right)
        assert bool(step.truncated[0]) == (i == 4) and not bool(step.terminated[0])
    # Always to the right falls within 8 to 11 steps: longer episodes end by termination.
    batch = BatchEnv(from_gymnax("CartPole-v1"), 1)
    state = batch.reset(jax.random.key(0))
    lengths = []
    for _ in range(12):
        state, step = batch.step(state, right)
        if step.done[0]:
            assert bool(step.terminated[0]) and not bool(step.truncated[0])
            # The true final observation, beyond 12 degrees, and not that of a fresh start.
            assert abs(float(step.observation["policy"][0, 2])) > np.deg2rad(12)
            lengths.append(int(step.episode_length[0]))
    assert lengths and 8 <= lengths[0] <= 11


def test_parameters_are_the_users():
    env, params = gymnax.make("Pendulum-v1")
    ours = from_gymnax(env, params.replace(max_torque=4.0), task_reward_max=0.0)
    state = ours.reset(jax.random.key(0))
    after = ours.step(state, jnp.ones((1,), jnp.float32))
    np.testing.assert_allclose(after.physics.last_u, 4.0)
    assert ours.spec.name == "gymnax:Pendulum-v1"


def test_a_config_builds_the_same_environment():
    config = GymnaxConfig(name="MountainCarContinuous-v0", episode_length=50, dt_s=0.1)
    spec = make_gymnax(config).spec
    assert (spec.episode_length, spec.dt_s, spec.task_reward_max) == (50, 0.1, 100.0)


class Words:
    """An environment whose actions are neither Box nor Discrete."""

    name = "Words"

    class Params:
        max_steps_in_episode = 3

        def replace(self, **_):
            return self

    default_params = Params()

    def is_truncated(self, state, params):
        return False

    def action_space(self, params):
        from hinf_rl.envs.gymnax_adapter import spaces

        return spaces.Tuple([spaces.Discrete(2)])


class Unbounded(Words):
    def action_space(self, params):
        from hinf_rl.envs.gymnax_adapter import spaces

        return spaces.Box(-jnp.inf, jnp.inf, (1,))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: from_gymnax("Pendulum"), "did you mean 'Pendulum-v1'"),
        (lambda: from_gymnax("Catch-bsuite"), "set task_reward_max"),
        (lambda: from_gymnax("Pendulum-v1", limit=1), "unknown key 'limit'"),
        (lambda: from_gymnax("Pendulum-v1", task_reward="x"), "report no parts"),
        (lambda: from_gymnax("Pendulum-v1", task_reward_max=float("inf")), "must be finite"),
        (lambda: from_gymnax(object()), "is not an environment of gymnax 1.0"),
        (lambda: from_gymnax(Words()), "are a Tuple; Box and Discrete are supported"),
        (lambda: from_gymnax(Unbounded()), "no finite bounds"),
    ],
)
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises(UserError, match=re.escape(message)):
        call()
