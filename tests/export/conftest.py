"""Run directories to export: made as training makes them, with networks that already do things."""

import jax
import jax.numpy as jnp
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


def _lively(carry, scale):
    """Actions as large as those of a trained policy, and a normaliser that has seen something."""
    mean = jax.tree.map(
        lambda leaf: jnp.where(leaf == 0, 0.1, scale * leaf), carry.actor.params["mean"]
    )
    normalizer = carry.policy_normalizer
    shape = normalizer.mean.shape

    def spread(low, high):
        line = jnp.linspace(low, high, shape[-1], dtype=jnp.float32)
        return jnp.broadcast_to(line, shape)

    count = jnp.full_like(normalizer.count, 64.0)
    seen = normalizer._replace(count=count, mean=spread(-0.1, 0.1), m2=spread(32.0, 96.0))
    actor = carry.actor._replace(params={**carry.actor.params, "mean": mean})
    return carry._replace(actor=actor, policy_normalizer=seen)


@pytest.fixture(scope="session")
def make_run(tmp_path_factory):
    """Returns `make(task, overrides, done=3, scale=3.0) -> path`; `done` of 3 iterations."""

    def make(task, overrides=None, *, done=3, scale=3.0):
        config = configure(task, "nominal", {**_SMALL, **(overrides or {})})
        algorithm = make_algorithm(config)
        carry = jax.jit(make_init(algorithm, seed_keys(config.seed, config.seeds)))()
        carry = _lively(carry, scale)
        carry = carry._replace(iteration=jnp.full_like(carry.iteration, done))
        run = open_run(tmp_path_factory.mktemp("run") / "run", config)
        run.begin_session()
        save_checkpoint(run.checkpoints, done, carry, identity=identity(config), keep=1)
        return run.path

    return make
