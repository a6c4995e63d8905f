"""One collection for every algorithm: groups of trajectories, their rewards and log-ratios."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from hinf_rl.agents.prdp.config import FinetuneConfig, Hyperparameters
from hinf_rl.diffusion.gradient import log_prob_table
from hinf_rl.diffusion.problem import (
    Decisions,
    Problem,
    Trajectories,
    decision_log_prob,
    flatten_rows,
)
from hinf_rl.ops.denoising_policy_gradient import (
    ContextStatistics,
    batch_advantages,
    context_advantages,
    context_statistics_update,
    group_advantages,
)
from hinf_rl.ops.reward_difference import weighted_rewards
from hinf_rl.types import Array, Metrics, PyTree


class Batch(NamedTuple):
    """N groups of B trajectories of K steps.

    Attributes:
      decisions: leaves [N, B, K, ...].
      old_log_prob: [N, B, K] under the policy at the start of the iteration.
      reference_log_prob: [N, B, K] under the reference.
      reward: [N, B]; 0 outside the mask.
      advantage: [N, B]; 0 outside the mask.
      mask: [N, B] bool, trajectories with finite reward and log-probabilities.
    """

    decisions: Decisions
    old_log_prob: Array
    reference_log_prob: Array
    reward: Array
    advantage: Array
    mask: Array


class Collector:
    """Draws batches.

    Args:
      config: the settings.
      problem: the policy and what pays.
    """

    def __init__(self, config: FinetuneConfig, problem: Problem) -> None:
        self._config, self._problem = config, problem

    def __call__(
        self,
        key: Array,
        params: PyTree,
        reference: PyTree,
        statistics: ContextStatistics | None,
        numbers: Hyperparameters,
    ) -> tuple[Batch, ContextStatistics | None, Metrics]:
        """Draws one batch from the policy, or from the reference where training is offline.

        Args:
          key: consumed.
          params: of the policy at the start of the iteration.
          reference: of the reference.
          statistics: of the contexts, where advantages need them.
          numbers: the hyperparameters.

        Returns:
          The batch, the statistics with its rewards, and metrics.
        """
        config, problem = self._config, self._problem
        key_context, key_rollout = jax.random.split(key)
        context = problem.draw_contexts(key_context, config.num_contexts)
        rows = jnp.repeat(context, config.group_size, axis=0)
        sampling = params if config.source == "online" else reference
        trajectories = problem.rollout(key_rollout, sampling, rows)
        old, ref = (self.table(p, trajectories.decisions) for p in (params, reference))
        reward = self.rewards(trajectories, rows)
        finite = jnp.isfinite(reward) & jnp.all(jnp.isfinite(old + ref), axis=-1)
        reward, mask, old, ref = self._grouped((jnp.where(finite, reward, 0.0), finite, old, ref))
        kl = self._divergence(old, ref)
        advantage, statistics = self._advantages(
            statistics, context, reward - numbers.kl_penalty * kl, mask
        )
        batch = Batch(self._grouped(trajectories.decisions), old, ref, reward, advantage, mask)
        metrics = self._metrics(batch, kl, numbers)
        measures = problem.measure(trajectories.outcome, rows)
        metrics |= {f"measure/{name}": jnp.mean(value) for name, value in measures.items()}
        return batch, statistics, metrics

    def table(self, params: PyTree, decisions: Decisions) -> Array:
        """[M, K] log-probabilities of decisions [M, K, ...], by the function of the loss."""
        flat = log_prob_table(
            self.log_prob, params, flatten_rows(decisions, 2), self._config.microbatch
        )
        return flat.reshape(decisions.step.shape)

    def log_prob(self, params: PyTree, rows: Decisions) -> Array:
        """[R] log-probabilities of decisions in a row."""
        return decision_log_prob(self._problem.model, params, rows)

    def rewards(self, trajectories: Trajectories, context: Array) -> Array:
        """[M] rewards, several summed with their weights."""
        value = self._problem.reward(trajectories.outcome, context)
        if self._config.reward_weights is None:
            return value
        return weighted_rewards(value, jnp.asarray(self._config.reward_weights, jnp.float32))

    def _grouped(self, tree: PyTree) -> PyTree:
        shape = (self._config.num_contexts, self._config.group_size)
        return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), tree)

    def _divergence(self, log_prob: Array, reference: Array) -> Array:
        """[N, B] log-ratios of whole trajectories, whose mean on the policy's own is the KL."""
        model = self._problem.model
        scale = 1.0 if model.reduce == "sum" else float(model.size)
        return scale * jnp.sum(log_prob - reference, axis=-1)

    def _advantages(
        self, statistics: ContextStatistics | None, context: Array, reward: Array, mask: Array
    ) -> tuple[Array, ContextStatistics | None]:
        config = self._config
        reward = jnp.where(mask, reward, 0.0)
        if config.advantage == "batch":
            return batch_advantages(reward, mask), statistics
        if config.advantage == "context":
            assert statistics is not None and self._problem.context_ids is not None
            ids = self._problem.context_ids(context)
            statistics = context_statistics_update(statistics, ids, reward, mask)
            least = config.context_min_count
            return context_advantages(statistics, ids, reward, mask, min_count=least), statistics
        return group_advantages(reward, mask, scale=config.advantage == "group"), statistics

    def _metrics(self, batch: Batch, kl: Array, numbers: Hyperparameters) -> Metrics:
        mask = batch.mask.astype(jnp.float32)
        count = jnp.maximum(jnp.sum(mask), 1.0)
        reward = jnp.sum(batch.reward * mask) / count
        divergence = jnp.sum(jnp.where(batch.mask, kl, 0.0)) / count
        group_mean = jnp.sum(batch.reward * mask, axis=1) / jnp.maximum(jnp.sum(mask, axis=1), 1.0)
        spread = jnp.sum(mask * (batch.reward - group_mean[:, None]) ** 2) / count
        metrics = {
            "reward/mean": reward,
            "reward/group_std": jnp.sqrt(spread),
            "train/nonfinite_rewards": jnp.sum(1.0 - mask),
        }
        if self._config.source == "online":
            # Off its own samples the mean log-ratio is no divergence.
            metrics |= {
                "policy/kl": divergence,
                "reward/objective": reward - numbers.beta * divergence,
            }
        return metrics


__all__ = ["Batch", "Collector"]
