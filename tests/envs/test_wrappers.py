"""Wrappers: history that never spans episodes, disturbance on the action."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl.envs.batch import BatchEnv
from hinf_rl.envs.classic import CartPole, CartPoleConfig, Pendulum
from hinf_rl.envs.probe import PROBES
from hinf_rl.envs.wrappers import ActionDisturbanceWrapper, HistoryWrapper
from hinf_rl.errors import UserError


def test_history_is_the_newest_first_stack_of_the_plain_rollout():
    plain, stacked = CartPole(), HistoryWrapper(CartPole(), 3)
    state, wrapped = plain.reset(jax.random.key(0)), stacked.reset(jax.random.key(0))
    seen = [np.asarray(state.observation["policy"])] * 3
    np.testing.assert_array_equal(wrapped.observation["policy"], np.concatenate(seen))
    actions = jax.random.normal(jax.random.key(1), (5, 1), jnp.float32)
    for action in actions:
        state = plain.step(state, action, 0.1 * action)
        wrapped = stacked.step(wrapped, action, 0.1 * action)
        seen = [np.asarray(state.observation["policy"]), *seen[:2]]
        np.testing.assert_array_equal(wrapped.observation["policy"], np.concatenate(seen))
        np.testing.assert_array_equal(
            wrapped.observation["privileged"], state.observation["privileged"]
        )
        np.testing.assert_array_equal(wrapped.reward, state.reward)


def test_history_of_one_changes_nothing():
    plain, wrapped = Pendulum(), HistoryWrapper(Pendulum(), 1)
    assert wrapped.spec == plain.spec
    a = plain.step(plain.reset(jax.random.key(0)), jnp.ones(1, jnp.float32))
    b = wrapped.step(wrapped.reset(jax.random.key(0)), jnp.ones(1, jnp.float32))
    chex.assert_trees_all_equal(a.observation, b.observation)


def test_history_never_mixes_episodes():
    length, num_envs = 4, 5
    env = HistoryWrapper(CartPole(CartPoleConfig(episode_length=7)), length)
    batch = BatchEnv(env, num_envs)
    state = batch.reset(jax.random.key(0), stagger=True)

    def advance(state, _):
        state, step = batch.step(state, jnp.zeros((num_envs, 1), jnp.float32))
        return state, (state.env.observation["policy"], state.env.physics["command"], step.done)

    _, (seen, command, done) = jax.lax.scan(advance, state, None, length=30)
    slots = np.asarray(seen).reshape(30, num_envs, length, 5)
    assert np.asarray(done).sum() >= 3 * num_envs
    # Speed minus speed error is the command, which is drawn afresh for every episode.
    told = slots[..., 4] - slots[..., 0]
    np.testing.assert_allclose(told, np.asarray(command)[..., None].repeat(length, -1), atol=1e-5)
    # Right after a reset every slot holds the first observation.
    for t, e in zip(*np.nonzero(np.asarray(done)), strict=True):
        assert np.all(slots[t, e] == slots[t, e, 0])


def test_mirror_of_a_history_mirrors_each_slot():
    env = HistoryWrapper(Pendulum(), 2)
    assert env.spec.policy_size == 6
    assert env.spec.mirror.policy == ((0, 1, 2, 3, 4, 5), (1.0, -1.0, -1.0) * 2)
    assert env.spec.mirror.privileged == Pendulum().spec.mirror.privileged


def test_history_without_mirror_has_none():
    assert HistoryWrapper(PROBES["action_reward"], 2).spec.mirror is None


def test_action_disturbance_equals_a_changed_action():
    plain, wrapped = Pendulum(), ActionDisturbanceWrapper(Pendulum(), 0.3)
    state = plain.reset(jax.random.key(0))
    action, push = jnp.array([0.5], jnp.float32), jnp.array([-0.2], jnp.float32)
    by_hand = plain.step(state, jnp.array([0.3], jnp.float32))
    chex.assert_trees_all_close(
        wrapped.step(state, action, push).physics, by_hand.physics, rtol=1e-6
    )
    nominal = wrapped.step(state, action)
    chex.assert_trees_all_equal(nominal.physics, plain.step(state, action).physics)


def test_action_disturbance_spec():
    spec = ActionDisturbanceWrapper(CartPole(), 0.3).spec
    assert (spec.disturbance.size, spec.disturbance.limit) == (1, 0.3)
    assert spec.disturbance.unit == "action"
    assert spec.mirror.disturbance == spec.mirror.action
    assert ActionDisturbanceWrapper(PROBES["action_reward"], 0.3).spec.disturbance.size == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HistoryWrapper(CartPole(), 0), "history length must be at least 1, got 0"),
        (lambda: ActionDisturbanceWrapper(CartPole(), 0.0), "must be positive, got 0.0"),
        (lambda: ActionDisturbanceWrapper(CartPole(), float("nan")), "must be positive, got nan"),
    ],
)
def test_wrong_settings_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()
