"""What a policy earns on held-out contexts, and how far it is from its reference."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from hinf_rl.agents.prdp.collect import Collector
from hinf_rl.agents.prdp.config import FinetuneConfig
from hinf_rl.diffusion.problem import Problem
from hinf_rl.types import Array, PyTree

_HELD_OUT = 0x50524450  # training splits its keys and never folds this in


class HeldOut(NamedTuple):
    """Measurements on held-out contexts, a row per sample.

    Attributes:
      outcome: of the samples.
      context: [M, C].
      reward: [M].
      log_ratio: [M] log-ratio of the whole trajectory to the reference: its mean is the KL.
      measures: named [M].
    """

    outcome: dict[str, Array]
    context: Array
    reward: Array
    log_ratio: Array
    measures: dict[str, Array]


def evaluate(
    config: FinetuneConfig,
    problem: Problem,
    params: PyTree,
    reference: PyTree,
    *,
    num_samples: int,
    key: Array | None = None,
) -> HeldOut:
    """Draws one sample for each of `num_samples` contexts that training did not see.

    Args:
      config: the settings; those of the reward and of the memory are used.
      problem: the policy and what pays.
      params: of the policy.
      reference: of the reference.
      num_samples: M.
      key: folded with the held-out constant; by default the same for all policies.
    """
    key = jax.random.fold_in(jax.random.key(0) if key is None else key, _HELD_OUT)
    key_context, key_rollout = jax.random.split(key)
    collector = Collector(config, problem)
    context = problem.draw_contexts(key_context, num_samples)
    found = problem.rollout(key_rollout, params, context)
    own, ref = (collector.table(p, found.decisions) for p in (params, reference))
    scale = 1.0 if problem.model.reduce == "sum" else float(problem.model.size)
    return HeldOut(
        outcome=found.outcome,
        context=context,
        reward=collector.rewards(found, context),
        log_ratio=scale * jnp.sum(own - ref, axis=-1),
        measures=problem.measure(found.outcome, context),
    )


def reference_rewards(
    config: FinetuneConfig,
    problem: Problem,
    reference: PyTree,
    *,
    num_contexts: int,
    num_samples: int,
    key: Array | None = None,
) -> tuple[Array, Array]:
    """Rewards of the reference for the tilted oracle, context by context.

    Args:
      config: the settings; those of the reward are used.
      problem: the policy and what pays.
      reference: of the reference.
      num_contexts: C held-out contexts.
      num_samples: S samples of each.
      key: folded with the held-out constant.

    Returns:
      ([C, S] rewards, [C, C'] contexts).
    """
    key = jax.random.fold_in(jax.random.key(1) if key is None else key, _HELD_OUT)
    key_context, key_rollout = jax.random.split(key)
    collector = Collector(config, problem)
    contexts = problem.draw_contexts(key_context, num_contexts)

    def one(scanned: tuple[Array, Array]) -> Array:
        key, context = scanned
        rows = jnp.repeat(context[None], num_samples, axis=0)
        return collector.rewards(problem.rollout(key, reference, rows), rows)

    keys = jax.random.split(key_rollout, num_contexts)
    return jax.lax.map(one, (keys, contexts)), contexts


__all__ = ["HeldOut", "evaluate", "reference_rewards"]
