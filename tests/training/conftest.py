"""A tiny algorithm with everything that a real carry holds."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest

from hinf_rl.agents.api import Algorithm
from hinf_rl.partition import by_rows, split, whole


class Counters(NamedTuple):
    iteration: jax.Array
    traces: jax.Array


def make_dummy(*, width=3, on_trace=None, dtype=jnp.float32):
    """A noisy linear recursion x <- gain x + noise, whose noise comes from the carried key."""

    def init(key, hyperparameters=None):
        key, key_x = jax.random.split(key)
        gain = 0.9 if hyperparameters is None else hyperparameters["gain"]
        return {
            "key": key,
            "x": jax.random.normal(key_x, (width,), dtype),
            "gain": gain,  # a Python float is weakly typed; the loop must cope
            "counters": Counters(jnp.int32(0), jnp.int32(0)),
            "empty": jnp.zeros((0,), jnp.float32),
        }

    def step(carry):
        if on_trace is not None:
            on_trace()
        key, key_noise = jax.random.split(carry["key"])
        x = carry["gain"] * carry["x"] + jax.random.normal(key_noise, carry["x"].shape)
        iteration = carry["counters"].iteration + 1
        metrics = {
            "train/return": jnp.sum(x),
            "train/iteration": iteration.astype(jnp.float32),
            "train/iteration_max": iteration.astype(jnp.float32),
            "train/nonfinite_updates": (iteration % 4 == 0).astype(jnp.float32),
        }
        counters = carry["counters"]._replace(iteration=iteration)
        return {**carry, "key": key, "x": x, "counters": counters}, metrics

    return Algorithm(init, step, lambda carry: carry, lambda carry: carry, None, 10)


def make_rows(num_envs=8, num_minibatches=2):
    """Noisy rows that pull weights toward them, minibatch by minibatch: what agents do."""

    def init(key, hyperparameters=None):
        del hyperparameters
        key, key_rows = jax.random.split(key)
        return {
            "key": key,
            "weights": jnp.zeros(3, jnp.float32),
            "rows": {
                "keys": jax.random.split(key_rows, num_envs),
                "x": jax.random.normal(key_rows, (num_envs, 3)),
            },
        }

    def advance(keys, x):
        pairs = jax.vmap(jax.random.split)(keys)
        noise = jax.vmap(lambda key: jax.random.normal(key, (3,)))(pairs[:, 0])
        return pairs[:, 1], 0.9 * x + noise

    def step(carry):
        key, key_order = jax.random.split(carry["key"])
        keys, x = by_rows(advance)(carry["rows"]["keys"], carry["rows"]["x"])
        samples = whole(x)
        order = jax.random.permutation(key_order, num_envs).reshape(num_minibatches, -1)
        order = split(order, axis=1)

        def minibatch(weights, rows):
            error = jnp.mean(jnp.take(samples, rows, axis=0) - weights[None], axis=0)
            return weights + 0.1 * error, jnp.sum(error**2)

        weights, loss = jax.lax.scan(minibatch, carry["weights"], order)
        carry = {"key": key, "weights": weights, "rows": {"keys": keys, "x": x}}
        return carry, {"train/return": -jnp.mean(loss)}

    return Algorithm(
        init, step, lambda carry: carry, lambda carry: carry, None, num_envs, ("rows",)
    )


@pytest.fixture
def dummy():
    return make_dummy


@pytest.fixture
def rows():
    return make_rows


@pytest.fixture
def bits():
    """The bits of every leaf of a tree."""

    def read(tree):
        def data(leaf):
            is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            return jax.device_get(jax.random.key_data(leaf) if is_key else leaf).tobytes()

        return [(data(leaf), leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]

    return read
