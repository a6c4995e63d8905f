"""Epochs of minibatches over one batch: the loss of a table of log-probabilities, and AdamW."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from hinf_rl.agents.prdp.collect import Batch
from hinf_rl.agents.prdp.config import FinetuneConfig, Hyperparameters
from hinf_rl.diffusion.gradient import LogProb, table_gradient
from hinf_rl.diffusion.problem import flatten_rows
from hinf_rl.ops.denoising_policy_gradient import ddpo_loss, reinforce_loss
from hinf_rl.ops.reward_difference import reward_difference_loss, stepwise_difference_loss
from hinf_rl.ops.surrogate import masked_mean
from hinf_rl.types import Array, Metrics, PyTree


class AdamW:
    """AdamW (Loshchilov and Hutter 2019) behind a global-norm clip; the step size is an argument.

    Args:
      max_grad_norm: global norm that the gradient is shortened to.
      weight_decay: share of each parameter that a unit step size takes away.
    """

    def __init__(self, max_grad_norm: float, weight_decay: float) -> None:
        self._transform = optax.chain(
            optax.clip_by_global_norm(max_grad_norm),
            optax.scale_by_adam(),
            optax.add_decayed_weights(weight_decay),
        )

    def init(self, params: PyTree) -> PyTree:
        """Starts the moments of `params` at zero."""
        return self._transform.init(params)

    def step(
        self, params: PyTree, gradient: PyTree, state: PyTree, learning_rate: Array
    ) -> tuple[PyTree, PyTree, Array]:
        """Descends once; a gradient that is not finite changes nothing.

        Returns:
          (parameters, moments, [] bool whether the gradient was finite).
        """
        finite = jnp.all(
            jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(gradient)])
        )
        # optax raises a float to its int32 step count, which strict promotion forbids.
        with jax.numpy_dtype_promotion("standard"):
            updates, moved = self._transform.update(gradient, state, params)
        stepped = jax.tree.map(lambda p, u: p - learning_rate * u, params, updates)
        return (*_keep((stepped, moved), (params, state), finite), finite)


class Learner(NamedTuple):
    """Parameters and their optimiser."""

    params: PyTree
    optimizer: PyTree


class Update:
    """Improves the policy on a batch.

    Args:
      config: the settings.
      log_prob: of decisions in a row.
    """

    def __init__(self, config: FinetuneConfig, log_prob: LogProb) -> None:
        self._config, self._log_prob = config, log_prob
        self._optimizer = AdamW(config.max_grad_norm, config.weight_decay)
        self._loss: Callable[[Batch, Array, Hyperparameters], tuple[Array, Metrics]] = {
            "prdp": self._prdp,
            "sdpo": self._sdpo,
            "ddpo": self._ddpo,
            "reinforce": self._reinforce,
        }[config.objective]

    def init(self, params: PyTree) -> PyTree:
        """First state of the optimiser."""
        return self._optimizer.init(params)

    def __call__(
        self, key: Array, learner: Learner, batch: Batch, numbers: Hyperparameters
    ) -> tuple[Learner, Metrics]:
        """Passes over the batch; metrics are means over the updates, counts are sums."""
        config = self._config

        def one_update(learner: Learner, groups: Array | None) -> tuple[Learner, Metrics]:
            part = batch if groups is None else jax.tree.map(lambda leaf: leaf[groups], batch)
            return self._descend(learner, part, numbers)

        def one_epoch(learner: Learner, key: Array) -> tuple[Learner, Metrics]:
            if config.num_minibatches == 1:
                return one_update(learner, None)
            order = jax.random.permutation(key, config.num_contexts)
            return jax.lax.scan(one_update, learner, order.reshape(config.num_minibatches, -1))

        keys = jax.random.split(key, config.num_epochs)
        learner, metrics = jax.lax.scan(one_epoch, learner, keys)
        return learner, {name: _reduce(name, value) for name, value in metrics.items()}

    def _descend(
        self, learner: Learner, batch: Batch, numbers: Hyperparameters
    ) -> tuple[Learner, Metrics]:
        shape = batch.old_log_prob.shape

        def loss(table: Array) -> tuple[Array, Metrics]:
            return self._loss(batch, table.reshape(shape), numbers)

        found = table_gradient(
            loss,
            self._log_prob,
            learner.params,
            flatten_rows(batch.decisions, 3),
            self._config.microbatch,
        )
        params, state, finite = self._optimizer.step(
            learner.params, found.gradient, learner.optimizer, numbers.learning_rate
        )
        metrics = found.auxiliary | {
            "policy/loss": found.loss,
            "policy/grad_norm": optax.tree.norm(found.gradient),
            "train/nonfinite_updates": (~finite).astype(jnp.float32),
        }
        return Learner(params, state), metrics

    def _prdp(
        self, batch: Batch, log_prob: Array, numbers: Hyperparameters
    ) -> tuple[Array, Metrics]:
        def one(lp: Array, old: Array, ref: Array, reward: Array, mask: Array) -> Any:
            return reward_difference_loss(
                lp, old, ref, reward,
                beta=numbers.beta,
                clip_eps=numbers.clip_eps,
                step_reduce=self._config.step_reduce,
                include_ties=self._config.include_ties,
                mask=mask,
            )  # fmt: skip

        found = jax.vmap(one)(
            log_prob, batch.old_log_prob, batch.reference_log_prob, batch.reward, batch.mask
        )
        metrics = {
            "policy/clipped": jnp.mean(found.clipped),
            "policy/explained": jnp.mean(found.explained),
        }
        return jnp.mean(found.loss), metrics

    def _sdpo(
        self, batch: Batch, log_prob: Array, numbers: Hyperparameters
    ) -> tuple[Array, Metrics]:
        steps = log_prob.shape[-1]
        # The reward comes with the last step: earlier ones see it discounted.
        left = jnp.arange(steps, dtype=jnp.float32)[::-1]
        advantage = batch.advantage[..., None] * (self._config.step_decay**left)[None, None, :]

        def one(lp: Array, old: Array, advantage: Array, mask: Array) -> Array:
            return stepwise_difference_loss(
                lp, old, advantage,
                clip_eps=numbers.clip_eps, decay=self._config.step_decay, mask=mask,
            )  # fmt: skip

        loss = jnp.mean(jax.vmap(one)(log_prob, batch.old_log_prob, advantage, batch.mask))
        return loss, {"policy/clipped": self._share_beyond(batch, log_prob, numbers)}

    def _ddpo(
        self, batch: Batch, log_prob: Array, numbers: Hyperparameters
    ) -> tuple[Array, Metrics]:
        each = ddpo_loss(
            log_prob,
            batch.old_log_prob,
            _spread(batch.advantage, log_prob),
            clip_eps=numbers.clip_eps,
            advantage_clip=self._config.advantage_clip,
        )
        loss = masked_mean(each, _counted(batch))
        return loss, {"policy/clipped": self._share_beyond(batch, log_prob, numbers)}

    def _reinforce(
        self, batch: Batch, log_prob: Array, numbers: Hyperparameters
    ) -> tuple[Array, Metrics]:
        del numbers
        each = reinforce_loss(
            log_prob,
            _spread(batch.advantage, log_prob),
            advantage_clip=self._config.advantage_clip,
        )
        return masked_mean(each, _counted(batch)), {}

    def _share_beyond(self, batch: Batch, log_prob: Array, numbers: Hyperparameters) -> Array:
        beyond = jnp.abs(log_prob - batch.old_log_prob) > numbers.clip_eps
        return masked_mean(beyond.astype(jnp.float32), _counted(batch))


def _counted(batch: Batch) -> Array:
    """[N, B, K] bool: steps that are valid, of trajectories that count."""
    return batch.decisions.valid & batch.mask[..., None]


def _spread(advantage: Array, log_prob: Array) -> Array:
    """[N, B] advantages for each of the K steps."""
    return jnp.broadcast_to(advantage[..., None], log_prob.shape)


def _keep(new: PyTree, old: PyTree, condition: Array) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def _reduce(name: str, values: Array) -> Array:
    return jnp.sum(values) if "nonfinite" in name else jnp.mean(values)


__all__ = ["AdamW", "Learner", "Update"]
