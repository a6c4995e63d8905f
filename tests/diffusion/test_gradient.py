"""The two-pass gradient: equal to the naive one, and its memory does not grow with the rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl.diffusion import DiffusionModel, ScheduleConfig, make_schedule, step_log_prob
from hinf_rl.diffusion.gradient import log_prob_table, table_gradient
from hinf_rl.errors import UserError
from hinf_rl.networks.denoiser import MLPDenoiser
from hinf_rl.ops.reward_difference import reward_difference_loss

GROUP, STEPS = 6, 4


@pytest.fixture(scope="module")
def problem():
    network = MLPDenoiser(size=2, hidden=(32, 32))
    model = DiffusionModel(network.apply, make_schedule(ScheduleConfig(steps=STEPS)), size=2)

    def rows(count):
        keys = jax.random.split(jax.random.key(0), 3)
        return {
            "x": jax.random.normal(keys[0], (count, 2), jnp.float32),
            "x_next": jax.random.normal(keys[1], (count, 2), jnp.float32),
            "step": jnp.arange(count, dtype=jnp.int32) % STEPS,
            "condition": jax.random.normal(keys[2], (count, 1), jnp.float32),
        }

    def log_prob(params, rows):
        return step_log_prob(model, params, **rows)

    some = rows(2)
    params = network.init(
        jax.random.key(1), some["x"], jnp.zeros(2, jnp.float32), some["condition"]
    )
    return log_prob, params, rows


def prdp(reward, old):
    def loss(table):
        lp = table.reshape(GROUP, STEPS)
        found = reward_difference_loss(lp, old, 0.9 * old, reward, beta=0.1, clip_eps=0.2)
        return found.loss, found.explained

    return loss


@pytest.mark.parametrize("microbatch", [1, 8, 24])
@pytest.mark.smoke
def test_two_passes_give_the_naive_gradient(problem, microbatch):
    log_prob, params, rows = problem
    data = rows(GROUP * STEPS)
    reward = jnp.linspace(-1.0, 1.0, GROUP, dtype=jnp.float32)
    old = log_prob(params, data).reshape(GROUP, STEPS) + 0.05
    loss = prdp(reward, old)
    naive = jax.jit(lambda p: table_gradient(loss, log_prob, p, data))(params)
    found = jax.jit(lambda p: table_gradient(loss, log_prob, p, data, microbatch))(params)
    np.testing.assert_allclose(found.loss, naive.loss, rtol=1e-4)
    # Sums of about 300 in another order: float32 has 1.2e-7 for each of 24 terms.
    np.testing.assert_allclose(found.auxiliary, naive.auxiliary, rtol=2e-6, atol=1e-4)
    scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(naive.gradient))
    for one, other in zip(*map(jax.tree.leaves, (found.gradient, naive.gradient)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * scale)


def test_memory_of_two_passes_is_that_of_a_microbatch(problem):
    log_prob, params, rows = problem

    def workspace(count, microbatch):
        data = rows(count)

        def loss(table):
            return jnp.mean(table) ** 2, None

        program = jax.jit(
            lambda p, d: table_gradient(loss, log_prob, p, d, microbatch).gradient
        ).lower(params, data)
        return program.compile().memory_analysis().temp_size_in_bytes

    naive = [workspace(count, None) for count in (1024, 8192)]
    two_pass = [workspace(count, 256) for count in (1024, 8192)]
    # Eight times the rows: the naive workspace grows in proportion, the other by the [R] table
    # and the copy of the rows' own data, 4 + 24 bytes each.
    assert naive[1] > 6 * naive[0]
    assert two_pass[1] - two_pass[0] < 7 * 1024 * 64
    assert two_pass[1] < 0.25 * naive[1]


def test_microbatches_must_divide(problem):
    log_prob, params, rows = problem
    with pytest.raises(UserError, match="microbatch must divide the 10 denoising steps"):
        log_prob_table(log_prob, params, rows(10), 4)
