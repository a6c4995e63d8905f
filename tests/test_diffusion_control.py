"""Action chunks on the cart-pole: common random numbers, masks, rewards, the demonstrator."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl.diffusion import PretrainConfig, ScheduleConfig
from hinf_rl.diffusion_control import ControlConfig, cart_pole_controller, make_control
from hinf_rl.envs.classic import CartPole, CartPoleConfig
from hinf_rl.envs.probe import PROBES
from hinf_rl.errors import UserError

SMALL = {
    "chunks": 6,
    "chunk_length": 4,
    "demos": 16,
    "hidden": (32, 32),
    "schedule": ScheduleConfig(steps=3),
    "pretrain": PretrainConfig(steps=300, batch=64),
}


def test_the_controller_balances_and_follows():
    env = CartPole()
    control = cart_pole_controller(env)

    def episode(key):
        def step(state, _):
            stepped = env.step(state, jnp.clip(control(state.observation["policy"]), -1.0, 1.0))
            return stepped, (stepped.terminated, stepped.metrics["tracking_error"])

        return jax.lax.scan(step, env.reset(key), length=250)[1]

    fell, error = jax.jit(jax.vmap(episode))(jax.random.split(jax.random.key(0), 32))
    assert not np.any(fell)
    assert np.asarray(error)[:, -1].max() < 0.1


@pytest.fixture(scope="module")
def rolled():
    # A pole that may hardly lean, and forces: some episodes end early.
    env = CartPole(CartPoleConfig(angle_limit_rad=0.15))
    problem = make_control(ControlConfig(**SMALL, force=1.0), env, cart_pole_controller(CartPole()))
    params = jax.jit(problem.pretrain)(jax.random.key(0))
    context = jnp.repeat(problem.draw_contexts(jax.random.key(1), 16), 4, axis=0)
    found = jax.jit(problem.rollout)(jax.random.key(2), params, context)
    return problem, context, jax.tree.map(np.asarray, found)


def test_trajectories_of_one_context_start_alike(rolled):
    _, _, found = rolled
    first = found.decisions.condition[:, 0].reshape(16, 4, -1)
    assert np.abs(first - first[:, :1]).max() == 0.0
    assert np.abs(first[0] - first[1]).max() > 0.0
    # And then differ by the policy's noise.
    last = found.decisions.x_next[:, 2].reshape(16, 4, -1)
    assert np.abs(last[:, 0] - last[:, 1]).min() > 0.0


def test_what_follows_a_fall_is_masked_and_unpaid(rolled):
    problem, context, found = rolled
    alive, rewards = found.outcome["alive"], found.outcome["rewards"]
    assert 0.02 < alive[:, -1].mean() < 0.98
    started = np.concatenate([np.ones((64, 1), bool), alive[:, :-1]], axis=1)
    assert (found.decisions.valid.reshape(64, 6, 3) == started[..., None]).all()
    assert not rewards[~started].any() and (rewards[started] > 0).all()
    assert (np.diff(alive.astype(int), axis=1) <= 0).all()
    reward = problem.reward(found.outcome, context)
    np.testing.assert_allclose(reward, rewards.sum(axis=1), rtol=1e-5)
    assert reward.max() <= 1.0


def test_forces_need_a_bounded_disturbance():
    with pytest.raises(UserError, match="needs a bounded disturbance"):
        make_control(ControlConfig(**SMALL, force=1.0), PROBES["action_reward"], lambda x: x)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chunks": 0}, "chunks must be at least 1"),
        ({"force": -1.0}, "force must not be negative"),
    ],
)
def test_wrong_settings_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        ControlConfig(**changes)
