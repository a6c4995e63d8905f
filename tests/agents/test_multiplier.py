"""Fixed and free multipliers on the double integrator against what linear theory says."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from hinf_rl.agents.hinf import gains, hyperparameters, lq_config, make, with_gains
from hinf_rl.envs.lq import LQEnv
from hinf_rl.ops.riccati import SYSTEMS, constrained_fixed_point, discounted, lqr_gain

SYSTEM = SYSTEMS["S2"]
GAMMA = 0.99
LENGTH = 25
ETA = 0.16


def config_of(*, source, multiplier="fixed", iterations=150, num_envs=64, baseline=False):
    """Linear players of the split cost: x'Qx is the task, u'Ru is not."""
    config = lq_config(
        ETA**0.5,
        gamma=GAMMA,
        iterations=iterations,
        num_envs=num_envs,
        episode_length=LENGTH,
    )
    player = dataclasses.replace(config.actor, init_log_std=0.0)
    return dataclasses.replace(
        config,
        actor_objective="constrained",
        actor=player,
        disturbance=dataclasses.replace(
            config.disturbance,
            source=source,
            player=player,
            undisturbed_fraction=0.25 if baseline else 0.0,
        ),
        constraint=dataclasses.replace(
            config.constraint,
            multiplier=multiplier,
            multiplier_max=20.0,
            multiplier_lr=1.0,
            baseline_decay=0.9 if baseline else None,
            actor_sees_intensity=source == "learned",
        ),
    )


class Run:
    """A compiled number of iterations from LQR's gain, or from gains that are given."""

    def __init__(self, config, *, initial_std=1.0):
        env = LQEnv(
            SYSTEM,
            episode_length=config.unroll_length,
            split=True,
            initial_std=initial_std,
        )
        algorithm = make(config, env)
        self._numbers = hyperparameters(config, default_limit=float("inf"))
        self._init = jax.jit(algorithm.init)
        self._run = jax.jit(
            lambda carry: jax.lax.scan(
                lambda carry, _: algorithm.step(carry), carry, length=config.iterations
            )
        )

    def __call__(self, *, multiplier=1.0, eta=ETA, K=None, L=None):
        numbers = self._numbers._replace(
            multiplier_init=jnp.float32(multiplier), attenuation=jnp.float32(eta)
        )
        carry = self._init(jax.random.key(0), numbers)
        K = lqr_gain(SYSTEM.A, SYSTEM.B, SYSTEM.Q, SYSTEM.R) if K is None else K
        carry, metrics = self._run(with_gains(carry, actor=K, disturber=L))
        return *gains(carry), {name: np.asarray(value) for name, value in metrics.items()}


def test_without_disturber_the_multiplier_weighs_the_task():
    # The actor minimises x'Qx + u'Ru + 5 x'Qx, discounted: LQR with 6 Q, by SciPy's own solver.
    A, B, _ = discounted(SYSTEM.A, SYSTEM.B, SYSTEM.D, GAMMA)
    P = scipy.linalg.solve_discrete_are(A, B, 6.0 * SYSTEM.Q, SYSTEM.R)
    exact = np.linalg.solve(SYSTEM.R + B.T @ P @ B, B.T @ P @ A)
    K, _, metrics = Run(config_of(source="none"))(multiplier=5.0)
    np.testing.assert_allclose(K, exact, rtol=1e-3)
    np.testing.assert_array_equal(metrics["constraint/multiplier"], 5.0)


def test_with_disturber_both_rest_at_the_fixed_point():
    A, B, D = discounted(SYSTEM.A, SYSTEM.B, SYSTEM.D, GAMMA)
    exact = constrained_fixed_point(A, B, D, SYSTEM.Q, SYSTEM.R, ETA, 5.0, True)
    K, L, _ = Run(config_of(source="learned", iterations=250))(multiplier=5.0)
    np.testing.assert_allclose(K, exact[0], rtol=5e-3)
    np.testing.assert_allclose(L, exact[1], rtol=5e-3)


def expected_slack(K, L, eta, *, initial_std, baseline):
    """E[eta w'w - x'Qx] + E[x'Qx without disturber], mean over one episode."""

    def cost(moments):
        return np.trace(SYSTEM.Q @ moments.mean(axis=0))

    def moments(gain, noise_w):
        loop = SYSTEM.A - SYSTEM.B @ K + SYSTEM.D @ gain
        noise = SYSTEM.B @ SYSTEM.B.T + noise_w * SYSTEM.D @ SYSTEM.D.T
        found = [initial_std**2 * np.eye(2)]
        for _ in range(LENGTH - 1):
            found.append(loop @ found[-1] @ loop.T + noise)
        return np.array(found)

    disturbed = moments(L, 1.0)
    intensity = np.trace(L @ disturbed.mean(axis=0) @ L.T) + 1.0
    nominal = cost(moments(0.0 * L, 0.0)) if baseline else 0.0
    return eta * intensity - (cost(disturbed) - nominal)


@pytest.mark.parametrize(("initial_std", "baseline"), [(0.0, True), (1.0, True), (1.0, False)])
def test_measured_slack_is_that_of_the_covariances(initial_std, baseline):
    K, L = np.array([[3.7, 3.4]]), np.array([[0.5, 0.5]])
    config = config_of(source="learned", multiplier="dual", iterations=1, num_envs=2048,
                       baseline=baseline)  # fmt: skip
    *_, metrics = Run(config, initial_std=initial_std)(eta=0.17, K=K, L=L)
    exact = expected_slack(K, L, 0.17, initial_std=initial_std, baseline=baseline)
    # 2048 episodes of 25 correlated steps: a few per cent.
    assert metrics["constraint/slack"][0] == pytest.approx(exact, rel=0.15, abs=0.01)
    moved = metrics["constraint/multiplier"][0] - 1.0
    assert moved == pytest.approx(-metrics["constraint/slack"][0], abs=1e-5)


def test_the_raw_constraint_charges_the_start_to_the_disturber():
    # With w = L x of the fixed point, sum(eta w'w - C) = -x_0'P x_0 < 0 for every x_0: raw, the
    # multiplier can only rise. The baseline takes x_0'P_0 x_0 off, P_0 being the undisturbed
    # value of the same K; P > P_0, so that a bias of the same sign stays. From rest it is 0.
    A, B, D, Q, _ = SYSTEM.matrices
    K, L = constrained_fixed_point(*SYSTEM.matrices, ETA, 1.0, True)
    loop = A - B @ K + D @ L
    P = scipy.linalg.solve_discrete_lyapunov(loop.T, Q - ETA * L.T @ L)
    P_0 = scipy.linalg.solve_discrete_lyapunov((A - B @ K).T, Q)
    assert np.linalg.eigvalsh(P)[0] > 0.0
    assert np.linalg.eigvalsh(P - P_0)[0] > -1e-9
    assert np.linalg.eigvalsh(P - P_0)[1] > 0.01 * np.linalg.eigvalsh(P)[1]


@pytest.mark.parametrize(("eta", "sign"), [(0.17, -1.0), (0.05, 1.0)])
def test_the_free_multiplier_follows_the_gain_from_rest(eta, sign):
    # Both players stay: LQR, whose squared task gain is 0.36209^2 = 0.131, against w = L x that
    # shows 0.104 of it in 100 steps from rest (by covariances), unit noise included.
    config = config_of(source="learned", multiplier="dual", iterations=20, baseline=True)
    held = dataclasses.replace(config, newton_step=(1e-12, 1e-12), unroll_length=100)
    *_, metrics = Run(held, initial_std=0.0)(eta=eta, L=np.array([[2.5, 2.5]]))
    assert sign * (metrics["constraint/multiplier"][-1] - 1.0) > 0.5
