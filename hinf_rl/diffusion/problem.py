"""What a diffusion policy is fine-tuned on: contexts, trajectories of denoising steps, rewards."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hinf_rl.diffusion.model import DiffusionModel, Frozen, sample_chain, step_log_prob
from hinf_rl.types import Array, PyTree


class Decisions(NamedTuple):
    """Denoising steps; leaves [M, K, ...] for M trajectories of K steps, or [R, ...] in a row.

    Attributes:
      x: [..., D] points.
      x_next: [..., D] what followed them.
      step: [...] int32 step of the chain, 0 the noisiest.
      condition: [..., C] what the chain was conditioned on.
      valid: [...] bool; a step after the end of an episode is none.
    """

    x: Array
    x_next: Array
    step: Array
    condition: Array
    valid: Array


class Trajectories(NamedTuple):
    """M trajectories and what they led to.

    Attributes:
      decisions: leaves [M, K, ...].
      outcome: named arrays [M, ...], what rewards and measures look at.
    """

    decisions: Decisions
    outcome: dict[str, Array]


Rollout = Callable[..., Trajectories]
"""`rollout(key, params, context [M, C], frozen=None)`."""


class Problem(NamedTuple):
    """A diffusion policy, where its contexts come from, and what pays.

    Attributes:
      name: what to call it.
      model: the policy.
      num_decisions: K, denoising steps of a trajectory: a multiple of the chain's.
      context_size: numbers of a context.
      draw_contexts: `draw_contexts(key, count) -> [count, C]`.
      rollout: a `Rollout`; from one context, trajectories differ by the policy's noise alone.
      reward: `reward(outcome, context [M, C]) -> [M]`, or [M, R] for R rewards.
      measure: `measure(outcome, context) -> {name: [M]}`, reported and not learned from.
      pretrain: `pretrain(key) -> params` of the reference policy.
      context_ids: `context_ids(context [N, C]) -> [N] int32`; None where contexts never return.
      num_context_ids: how many there are.
      num_chunks: environment steps J of a trajectory, each a whole chain: K = J T.
      chunk_rewards: `chunk_rewards(outcome) -> [M, J]`, which sum to the reward; None where the
        reward comes once.
    """

    name: str
    model: DiffusionModel
    num_decisions: int
    context_size: int
    draw_contexts: Callable[[Array, int], Array]
    rollout: Rollout
    reward: Callable[[dict[str, Array], Array], Array]
    measure: Callable[[dict[str, Array], Array], dict[str, Array]]
    pretrain: Callable[[Array], PyTree]
    context_ids: Callable[[Array], Array] | None = None
    num_context_ids: int = 0
    num_chunks: int = 1
    chunk_rewards: Callable[[dict[str, Array]], Array] | None = None


def chain_decisions(path: Array, condition: Array) -> Decisions:
    """Cuts [M, T+1, D] paths into their steps.

    Args:
      path: of `sample_chain`.
      condition: [M, C].
    """
    rows, num_steps = path.shape[0], path.shape[1] - 1
    steps = jnp.arange(num_steps, dtype=jnp.int32)
    return Decisions(
        x=path[:, :-1],
        x_next=path[:, 1:],
        step=jnp.broadcast_to(steps[None, :], (rows, num_steps)),
        condition=jnp.repeat(condition[:, None, :], num_steps, axis=1),
        valid=jnp.ones((rows, num_steps), bool),
    )


def sample_rollout(model: DiffusionModel) -> Rollout:
    """Returns the rollout of plain sampling: one chain, conditioned on the context.

    The outcome is {"sample": [M, D]}.

    Args:
      model: the policy.
    """

    def rollout(
        key: Array, params: PyTree, context: Array, frozen: Frozen | None = None
    ) -> Trajectories:
        chain = sample_chain(key, model, params, context, frozen=frozen)
        return Trajectories(chain_decisions(chain.path, context), {"sample": chain.sample})

    return rollout


def decision_log_prob(model: DiffusionModel, params: PyTree, rows: Decisions) -> Array:
    """Log-probabilities of denoising steps in a row.

    Args:
      model: the policy.
      params: of the denoiser.
      rows: leaves [R, ...].

    Returns:
      [R], 0 where not valid.
    """
    value = step_log_prob(model, params, rows.x, rows.x_next, rows.step, rows.condition)
    return jnp.where(rows.valid, value, 0.0)


def flatten_rows(tree: Any, axes: int) -> Any:
    """Merges the first `axes` axes of every leaf."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[axes:]), tree)


__all__ = [
    "Decisions",
    "Problem",
    "Rollout",
    "Trajectories",
    "chain_decisions",
    "decision_log_prob",
    "flatten_rows",
    "sample_rollout",
]
