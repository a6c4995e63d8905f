"""Run directories to export: as training leaves them, with networks drawn at random."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl.tasks import configure
from hinf_rl.training.checkpoint import save_checkpoint
from hinf_rl.training.loop import make_init, seed_keys
from hinf_rl.training.run_directory import identity, make_algorithm, open_run

_SMALL = {
    "agent.num_envs": 2,
    "agent.unroll_length": 2,
    "agent.num_minibatches": 1,
    "agent.num_epochs": 1,
    "agent.iterations": 3,
}


def _drawn(carry):
    """A carry of these shapes: nothing is compiled, and only what an export reads is not zero."""
    rng = np.random.default_rng(0)

    def zeros(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jnp.broadcast_to(jax.random.key(0), leaf.shape)
        return jnp.zeros(leaf.shape, leaf.dtype)

    def weights(path, leaf):
        # Actions of about a half: legs move, and most robots stand.
        scale = 0.2 if path[-1].key == "bias" else leaf.shape[-2] ** -0.5
        return jnp.asarray(scale * rng.normal(size=leaf.shape), jnp.float32)

    filled = jax.tree.map(zeros, carry)
    mean = jax.tree_util.tree_map_with_path(weights, carry.actor.params["mean"])
    moments = filled.policy_normalizer
    moments = moments._replace(
        count=moments.count + 64.0,
        mean=jnp.asarray(rng.normal(0.0, 0.05, moments.mean.shape), jnp.float32),
        m2=jnp.asarray(64.0 * rng.uniform(0.5, 2.0, moments.m2.shape), jnp.float32),
    )
    actor = filled.actor._replace(params={**filled.actor.params, "mean": mean})
    return filled._replace(actor=actor, policy_normalizer=moments)


@pytest.fixture(scope="session")
def make_run(tmp_path_factory):
    """Returns `make(task, overrides, done=3) -> path`; `done` of 3 iterations."""

    def make(task, overrides=None, *, done=3):
        config = configure(task, "nominal", {**_SMALL, **(overrides or {})})
        init = make_init(make_algorithm(config), seed_keys(config.seed, config.seeds))
        carry = _drawn(jax.eval_shape(init))
        carry = carry._replace(iteration=jnp.full_like(carry.iteration, done))
        run = open_run(tmp_path_factory.mktemp("run") / "run", config)
        run.begin_session()
        save_checkpoint(run.checkpoints, done, carry, identity=identity(config), keep=1)
        return run.path

    return make
