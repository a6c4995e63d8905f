"""Foreign environments train to returns that are known without training; one case per adapter.

Seed 0 each. CartPole and inverted pendulum pay 1 per step: a policy that never falls has the
length of the episode, and no policy has more. The point mass is a linear-quadratic problem: its
best return follows from a Riccati recursion.
"""

import dataclasses

import jax
import numpy as np
import pytest

from hinf_rl.adapted_tasks import AGENT
from hinf_rl.agents.hinf import make
from hinf_rl.envs import BatchEnv
from hinf_rl.tasks import apply_algorithm

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


def test_brax_inverted_pendulum_never_falls():
    pytest.importorskip("brax")
    from hinf_rl.envs.brax_adapter import from_brax

    env = from_brax("inverted_pendulum", episode_length=100)
    assert mean_return(env, train(env, iterations=16)) >= 99


def best_return(num_steps):
    """Mean best return of the point mass from x ~ U(-1, 1) at rest, E[x^2] = 1/3."""
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
    q = np.diag([POSITION_COST, VELOCITY_COST])
    p = np.zeros((2, 2))
    for _ in range(num_steps):
        m = q + p
        gain = b.T @ m @ a / (ACTION_COST + b.T @ m @ b)
        assert np.abs(gain[0, 0]) <= 1.0, "from |x| = 1 the best action must be within its limits"
        closed = a - b @ gain
        p = closed.T @ m @ closed + ACTION_COST * gain.T @ gain
    return -p[0, 0] / 3


def test_playground_point_mass_is_controlled_as_well_as_possible():
    pytest.importorskip("mujoco.mjx")
    from experiments.interop.point_mass import PointMass
    from hinf_rl.envs.playground_adapter import from_playground

    env = from_playground(PointMass(), episode_length=50, task_reward_max=0.0)
    best = best_return(50)
    found = mean_return(env, train(env, iterations=60), num_envs=512)
    # The mean over 512 starts is off by 3 % (one standard error of the mean of x^2).
    assert 1.3 * best <= found <= 0.9 * best, (found, best)
