"""DPPO: a clipped surrogate over the last denoising steps of each action chunk, with a critic."""

import dataclasses
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp

from hinf_rl.agents.api import Algorithm
from hinf_rl.agents.prdp.algorithm import ChainPolicy
from hinf_rl.agents.prdp.update import AdamW, Learner
from hinf_rl.diffusion.model import Frozen
from hinf_rl.diffusion.problem import Decisions, Problem, decision_log_prob, flatten_rows
from hinf_rl.errors import UserError
from hinf_rl.networks import MLP
from hinf_rl.ops.denoising_policy_gradient import dppo_loss
from hinf_rl.ops.returns import gae
from hinf_rl.ops.surrogate import masked_mean, normalize_advantage
from hinf_rl.types import Array, Metrics, PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class DPPOConfig:
    """Settings of DPPO.

    Attributes:
      iterations: length of the training.
      num_episodes: episodes, and contexts, of an iteration.
      num_epochs, num_minibatches: passes over the rows (environment step, denoising step), and
        parts of each pass.
      tuned_steps: last denoising steps that are trained; a frozen copy takes those before.
      gamma, gae_lambda: per environment step (action chunk).
      gamma_denoise: discount per denoising step.
      clip_eps, clip_base: clip range at the last step and at the first trained one.
      target_kl: the rest of an iteration's updates is skipped beyond this approximate KL.
      beta: price of KL with which metrics report E[r] - beta KL; nothing is learned from it.
      critic_hidden: widths of the critic, which sees the state and the share of chunks done.
      learning_rate, critic_learning_rate, max_grad_norm: of Adam.
    """

    iterations: int = 60
    num_episodes: int = 256
    num_epochs: int = 5
    num_minibatches: int = 4
    tuned_steps: int = 5
    gamma: float = 0.99
    gae_lambda: float = 0.95
    gamma_denoise: float = 0.99
    clip_eps: float = 0.01
    clip_base: float = 0.01
    target_kl: float = 1.0
    beta: float = 0.05
    critic_hidden: tuple[int, ...] = (64, 64)
    learning_rate: float = 3e-4
    critic_learning_rate: float = 1e-3
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        counts = ("iterations", "num_episodes", "num_epochs", "num_minibatches", "tuned_steps")
        for name in counts:
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("gamma", "gae_lambda", "gamma_denoise"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        positive = ("clip_eps", "clip_base", "target_kl", "beta")
        for name in (*positive, "learning_rate", "critic_learning_rate", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name} must be positive, got {getattr(self, name)}")

    @property
    def batch_size(self) -> int:
        """Episodes, and reward queries, of one iteration."""
        return self.num_episodes


class DPPOCarry(NamedTuple):
    """Everything that DPPO carries."""

    learner: Learner
    critic: Learner
    reference: PyTree  # the frozen copy, too
    iteration: Array  # [] int32
    key: Array


class _Rows(NamedTuple):
    """One row per trained denoising step: leaves [R, ...]."""

    decisions: Decisions
    old_log_prob: Array
    advantage: Array
    target: Array
    critic_input: Array


def make_dppo(config: DPPOConfig, problem: Problem) -> Algorithm:
    """Builds DPPO on a problem whose trajectories are action chunks.

    Source: Ren et al. 2025 (DPPO), algorithm 1. `init` takes `reference` as that of PRDP does.

    Args:
      config: the settings.
      problem: the policy and what pays; `chunk_rewards` must be there.

    Raises:
      UserError: the problem pays once, its chain is too short, or the rows do not divide.
    """
    if problem.chunk_rewards is None:
        raise UserError(
            f"problem {problem.name!r} pays once per trajectory; dppo needs chunk_rewards"
        )
    num_steps = problem.model.schedule.num_steps
    if config.tuned_steps > num_steps:
        raise UserError(
            f"tuned_steps must not exceed the {num_steps} steps of {problem.name!r}, got "
            f"{config.tuned_steps}"
        )
    rows = config.num_episodes * problem.num_chunks * config.tuned_steps
    if rows % config.num_minibatches:
        raise UserError(
            f"num_minibatches must divide the {rows} trained denoising steps, got "
            f"{config.num_minibatches}"
        )
    return _Builder(config, problem).algorithm()


class _Builder:
    def __init__(self, config: DPPOConfig, problem: Problem) -> None:
        self._config = config
        self._problem = problem
        # Means over the numbers of a chunk, to which the clip range belongs.
        self._model = problem.model._replace(reduce="mean")
        self._critic = MLP(hidden=config.critic_hidden, size=1, activation="tanh")
        self._optimizer = AdamW(config.max_grad_norm, 0.0)
        self._num_frozen = problem.model.schedule.num_steps - config.tuned_steps

    def algorithm(self) -> Algorithm:
        return Algorithm(
            init=self.init,
            step=self.step,
            policy=lambda carry: ChainPolicy(carry.learner.params, self._problem.model),
            disturber=lambda carry: None,
            config=self._config,
            env_steps_per_iteration=self._config.batch_size,
        )

    def init(self, key: Array, numbers: None = None, reference: PyTree | None = None) -> DPPOCarry:
        """Starts from `reference`; there are no numbers to sweep."""
        del numbers
        key_reference, key_critic, next_key = jax.random.split(key, 3)
        if reference is None:
            reference = self._problem.pretrain(key_reference)
        size = self._critic_size(reference)
        critic = self._critic.init(key_critic, jnp.zeros((1, size), jnp.float32))
        carry = DPPOCarry(
            learner=Learner(reference, self._optimizer.init(reference)),
            critic=Learner(critic, self._optimizer.init(critic)),
            reference=reference,
            iteration=jnp.zeros((), jnp.int32),
            key=next_key,
        )
        # Leaves that start equal must not share a buffer: the carry is donated.
        return jax.tree.map(jnp.copy, carry)

    def step(self, carry: DPPOCarry) -> tuple[DPPOCarry, Metrics]:
        """One iteration: episodes, advantages of their chunks, epochs of minibatches."""
        key_context, key_rollout, key_update, next_key = jax.random.split(carry.key, 4)
        context = self._problem.draw_contexts(key_context, self._config.num_episodes)
        frozen = Frozen(carry.reference, self._num_frozen)
        found = self._problem.rollout(key_rollout, carry.learner.params, context, frozen)
        rows, metrics = self._rows(carry, found.decisions, found.outcome)
        measures = self._problem.measure(found.outcome, context)
        metrics |= {f"measure/{name}": jnp.mean(value) for name, value in measures.items()}
        metrics["reward/mean"] = jnp.mean(self._problem.reward(found.outcome, context))
        metrics["reward/objective"] = (
            metrics["reward/mean"] - self._config.beta * metrics["policy/kl"]
        )
        learner, critic, update_metrics = self._update(key_update, carry, rows)
        carry = carry._replace(
            learner=learner,
            critic=critic,
            iteration=carry.iteration + jnp.int32(1),
            key=next_key,
        )
        metrics |= update_metrics
        return carry, {name: jnp.asarray(metrics[name], jnp.float32) for name in sorted(metrics)}

    def _rows(
        self, carry: DPPOCarry, decisions: Decisions, outcome: dict[str, Array]
    ) -> tuple[_Rows, Metrics]:
        """Cuts the trained steps out of all decisions, with the advantage of their chunk."""
        chunks = self._problem.num_chunks
        by_chunk = jax.tree.map(
            lambda leaf: leaf.reshape(leaf.shape[0], chunks, -1, *leaf.shape[2:]), decisions
        )
        tuned = jax.tree.map(lambda leaf: leaf[:, :, self._num_frozen :], by_chunk)
        seen = self._critic_input(by_chunk.condition[:, :, 0])
        valid = by_chunk.valid[:, :, 0]
        assert self._problem.chunk_rewards is not None
        advantage, target = self._advantages(
            carry, self._problem.chunk_rewards(outcome), seen, valid
        )
        steps = self._config.tuned_steps

        def spread(value: Array) -> Array:
            """[M, J, ...] to [M J steps, ...]."""
            return flatten_rows(jnp.repeat(value[:, :, None], steps, axis=2), 3)

        flat = flatten_rows(tuned, 3)
        old, ref = (
            decision_log_prob(self._model, params, flat)
            for params in (carry.learner.params, carry.reference)
        )
        rows = _Rows(flat, old, spread(advantage), spread(target), spread(seen))
        kl = self._model.size * jnp.sum(old - ref) / decisions.step.shape[0]
        return rows, {"policy/kl": kl}

    def _advantages(
        self, carry: DPPOCarry, reward: Array, seen: Array, valid: Array
    ) -> tuple[Array, Array]:
        """[M, J] advantages and value targets of the chunks; nothing follows the last."""
        value = self._value(carry.critic.params, seen)
        goes_on = jnp.concatenate([valid[:, 1:], jnp.zeros_like(valid[:, :1])], axis=1)
        following = jnp.concatenate([value[:, 1:], jnp.zeros_like(value[:, :1])], axis=1)
        advantage, target = gae(
            *(jnp.swapaxes(x, 0, 1) for x in (reward, value, following)),
            terminated_t=jnp.swapaxes(~goes_on, 0, 1),
            truncated_t=jnp.zeros_like(valid.T),
            valid_t=valid.T,
            gamma=self._config.gamma,
            gae_lambda=self._config.gae_lambda,
        )
        return jnp.swapaxes(advantage, 0, 1), jnp.swapaxes(target, 0, 1)

    def _update(
        self, key: Array, carry: DPPOCarry, rows: _Rows
    ) -> tuple[Learner, Learner, Metrics]:
        config = self._config
        count = rows.old_log_prob.shape[0]

        def one_update(
            state: tuple[Learner, Learner, Array], index: Array
        ) -> tuple[tuple[Learner, Learner, Array], Metrics]:
            learner, critic, stopped = state
            part = jax.tree.map(lambda leaf: leaf[index], rows)
            moved, kl, metrics = self._descend(learner, part)
            critic, critic_loss = self._fit(critic, part)
            stopped = stopped | (kl > config.target_kl)
            learner = jax.tree.map(lambda new, old: jnp.where(stopped, old, new), moved, learner)
            return (learner, critic, stopped), metrics | {"critic/loss": critic_loss}

        def one_epoch(
            state: tuple[Learner, Learner, Array], key: Array
        ) -> tuple[tuple[Learner, Learner, Array], Metrics]:
            order = jax.random.permutation(key, count)
            return jax.lax.scan(one_update, state, order.reshape(config.num_minibatches, -1))

        start = (carry.learner, carry.critic, jnp.zeros((), bool))
        keys = jax.random.split(key, config.num_epochs)
        (learner, critic, stopped), metrics = jax.lax.scan(one_epoch, start, keys)
        reduced = {
            name: jnp.sum(value) if "nonfinite" in name else jnp.mean(value)
            for name, value in metrics.items()
        }
        return learner, critic, reduced | {"policy/stopped": stopped.astype(jnp.float32)}

    def _descend(self, learner: Learner, rows: _Rows) -> tuple[Learner, Array, Metrics]:
        valid = rows.decisions.valid
        advantage = normalize_advantage(rows.advantage, valid)

        def loss_of(params: PyTree) -> tuple[Array, Array]:
            log_prob = decision_log_prob(self._model, params, rows.decisions)
            each = dppo_loss(
                log_prob,
                rows.old_log_prob,
                advantage,
                rows.decisions.step - jnp.int32(self._num_frozen),
                num_steps=self._config.tuned_steps,
                gamma_denoise=self._config.gamma_denoise,
                clip_eps=self._config.clip_eps,
                clip_base=self._config.clip_base,
            )
            change = log_prob - rows.old_log_prob
            # Schulman's estimator of KL(old | new): never negative, of low variance.
            kl = masked_mean(jnp.expm1(change) - change, valid)
            return masked_mean(each, valid), kl

        (loss, kl), gradient = jax.value_and_grad(loss_of, has_aux=True)(learner.params)
        params, state, finite = self._optimizer.step(
            learner.params, gradient, learner.optimizer, jnp.float32(self._config.learning_rate)
        )
        metrics = {
            "policy/loss": loss,
            "policy/step_kl": kl,
            "train/nonfinite_updates": (~finite).astype(jnp.float32),
        }
        return Learner(params, state), kl, metrics

    def _fit(self, critic: Learner, rows: _Rows) -> tuple[Learner, Array]:
        def loss_of(params: PyTree) -> Array:
            value = self._value(params, rows.critic_input)
            return 0.5 * masked_mean((value - rows.target) ** 2, rows.decisions.valid)

        loss, gradient = jax.value_and_grad(loss_of)(critic.params)
        params, state, _ = self._optimizer.step(
            critic.params,
            gradient,
            critic.optimizer,
            jnp.float32(self._config.critic_learning_rate),
        )
        return Learner(params, state), loss

    def _value(self, params: PyTree, seen: Array) -> Array:
        return cast(Array, self._critic.apply(params, seen))[..., 0]

    def _critic_input(self, condition: Array) -> Array:
        """[M, J, C] conditions of the chunks, with the share of them that is done."""
        rows, chunks, _ = condition.shape
        done = jnp.arange(chunks, dtype=jnp.float32) / chunks
        share = jnp.broadcast_to(done[None, :, None], (rows, chunks, 1))
        return jnp.concatenate([condition, share], axis=-1)

    def _critic_size(self, params: PyTree) -> int:
        shapes = jax.eval_shape(
            lambda params, key: self._problem.rollout(
                key, params, self._problem.draw_contexts(key, 1)
            ),
            params,
            jax.random.key(0),
        )
        return shapes.decisions.condition.shape[-1] + 1


__all__ = ["DPPOCarry", "DPPOConfig", "make_dppo"]
