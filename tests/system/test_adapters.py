"""Foreign environments train to returns that are known without training; one case per adapter.

Seed 0 each. CartPole pays 1 per step: a policy that never falls has the length of the episode,
and no policy has more. The rail and the point mass are linear-quadratic problems: their best
returns follow from a Riccati recursion.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl.adapted_tasks import AGENT
from hinf_rl.agents.hinf import make
from hinf_rl.control_tasks import apply_algorithm
from hinf_rl.envs import BatchEnv

pytestmark = pytest.mark.slow


def train(env, *, iterations, num_envs=64, algorithm="nominal", **changes):
    config = dataclasses.replace(
        apply_algorithm(AGENT, algorithm), iterations=iterations, num_envs=num_envs, **changes
    )
    built = make(config, env)

    @jax.jit
    def run(key):
        return jax.lax.scan(lambda c, _: built.step(c), built.init(key), length=iterations)

    carry, metrics = run(jax.random.key(0))
    assert np.all(np.asarray(metrics["env/nonfinite_steps"]) == 0)
    return built.policy(carry)


def mean_return(env, policy, *, num_envs=64):
    """Mean return of whole episodes under the policy's mean, without disturbance."""
    batch = BatchEnv(env, num_envs)

    @jax.jit
    def run(key):
        def body(state, _):
            state, step = batch.step(state, policy(state.env.observation))
            return state, (step.done, step.episode_return)

        return jax.lax.scan(body, batch.reset(key), length=env.spec.episode_length)[1]

    done, total = (np.asarray(x) for x in run(jax.random.key(1)))
    first = done.argmax(axis=0)
    assert done.any(axis=0).all()
    return total[first, np.arange(num_envs)].mean()


def test_gymnax_cart_pole_never_falls():
    pytest.importorskip("gymnax")
    from hinf_rl.envs.gymnax_adapter import from_gymnax

    env = from_gymnax("CartPole-v1", episode_length=200)
    # Without training it falls at once: equal scores are choice 0, a push to the left.
    assert mean_return(env, lambda observation: 0.0 * observation["policy"][:, :2]) < 15
    assert mean_return(env, train(env, iterations=30)) >= 198


def best_return(a, b, q, r, num_steps):
    """Mean best return of -(x'Qx + r u^2) after each step, from first components x ~ U(-1, 1).

    Everything else starts at 0, and E[x^2] = 1/3.
    """
    p = np.zeros_like(q)
    for _ in range(num_steps):
        m = q + p
        gain = b.T @ m @ a / (r + b.T @ m @ b)
        assert np.abs(gain[0, 0]) <= 1.0, "from |x| = 1 the best action must be within its limits"
        closed = a - b @ gain
        p = closed.T @ m @ closed + r * gain.T @ gain
    return -p[0, 0] / 3


def test_brax_rail_is_controlled_as_well_as_possible():
    pytest.importorskip("brax")
    from hinf_rl.envs.brax_adapter import brax_envs, from_brax

    # Brax's interface without its physics, whose compilation would take most of a minute; that
    # has tests of its own.
    class Rail(brax_envs.Env):
        """x moves by 0.2 u."""

        backend, observation_size, action_size, dt = "none", 1, 1, 0.1

        def reset(self, rng):
            x = jax.random.uniform(rng, (1,), minval=-1.0, maxval=1.0)
            return brax_envs.State(x, x, jnp.zeros(()), jnp.zeros(()), {}, {})

        def step(self, state, action):
            x = state.pipeline_state + 0.2 * action
            cost = jnp.sum(x**2 + 1.2 * action**2)
            done = jnp.where(jnp.abs(x[0]) > 3.0, 1.0, 0.0)
            return state.replace(pipeline_state=x, obs=x, reward=-cost, done=done)

    env = from_brax(Rail(), episode_length=30, task_reward_max=0.0)
    best = best_return(np.eye(1), np.full((1, 1), 0.2), np.eye(1), 1.2, 30)
    # The fixed point by hand: 0.04 m^2 - 0.04 m - 1.2 = 0 for m = 1 + p, so m = 6 and p = 5.
    np.testing.assert_allclose(best, -5.0 / 3.0, rtol=1e-3)
    # Without training nothing moves and the return is -30 E[x^2] = -10: six times the best.
    found = mean_return(env, train(env, iterations=60), num_envs=512)
    assert 1.3 * best <= found <= 0.9 * best, (found, best)


def best_point_mass_return(num_steps):
    from experiments.interop.point_mass import (
        ACTION_COST,
        ACTUATOR_N,
        MASS_KG,
        POSITION_COST,
        SUBSTEP_S,
        VELOCITY_COST,
        PointMass,
    )

    n, h = PointMass.n_substeps, SUBSTEP_S
    # n substeps of semi-implicit Euler: v gains n h a, x gains n h v + n (n + 1) / 2 h^2 a.
    a = np.array([[1.0, n * h], [0.0, 1.0]])
    b = ACTUATOR_N / MASS_KG * np.array([[n * (n + 1) / 2 * h**2], [n * h]])
    return best_return(a, b, np.diag([POSITION_COST, VELOCITY_COST]), ACTION_COST, num_steps)


@pytest.mark.long
def test_playground_point_mass_is_controlled_as_well_as_possible():
    pytest.importorskip("mujoco.mjx")
    from experiments.interop.point_mass import PointMass
    from hinf_rl.envs.playground_adapter import from_playground

    env = from_playground(PointMass(), episode_length=50, task_reward_max=0.0)
    best = best_point_mass_return(50)
    found = mean_return(env, train(env, iterations=60), num_envs=512)
    # The mean over 512 starts is off by 3 % (one standard error of the mean of x^2).
    assert 1.3 * best <= found <= 0.9 * best, (found, best)
