"""A tiny algorithm with everything that a real carry holds."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest

from hinf_rl.agents.api import Algorithm


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


@pytest.fixture
def dummy():
    return make_dummy


@pytest.fixture
def bits():
    """The bits of every leaf of a tree."""

    def read(tree):
        def data(leaf):
            is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            return jax.device_get(jax.random.key_data(leaf) if is_key else leaf).tobytes()

        return [(data(leaf), leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]

    return read
