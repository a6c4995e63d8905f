"""A small ring whose reference trains in a second."""

import jax
import numpy as np
import pytest

from hinf_rl.agents.prdp import FinetuneConfig
from hinf_rl.diffusion import PretrainConfig, ScheduleConfig
from hinf_rl.diffusion.ring import RingConfig, make_ring


def ring():
    return make_ring(
        RingConfig(
            hidden=(16, 16),
            schedule=ScheduleConfig(steps=4, sigma_min=0.2),
            pretrain=PretrainConfig(steps=300, batch=128, learning_rate=5e-3),
        )
    )


def config(**changes):
    small = {"iterations": 5, "num_contexts": 8, "group_size": 4, "num_epochs": 2}
    return FinetuneConfig(**{**small, **changes})


def same_bits(first, second):
    """Whether two trees hold the same numbers, bit for bit."""
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)

    def data(x):
        is_key = jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(x) if is_key else x)

    return all(np.array_equal(data(a), data(b)) for a, b in pairs)


@pytest.fixture(scope="session")
def kit():
    """The helpers above, the problem and its trained reference."""

    class Kit:
        problem = ring()
        config = staticmethod(config)
        same_bits = staticmethod(same_bits)

    Kit.reference = jax.jit(Kit.problem.pretrain)(jax.random.key(0))
    return Kit
