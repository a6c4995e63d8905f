"""Both stages of B-Coder and its baselines as one pure `init`/`step` pair."""

from typing import NamedTuple, NoReturn

import jax
import jax.numpy as jnp

from hinf_rl.agents.api import Algorithm
from hinf_rl.agents.bcoder.config import BCoderConfig
from hinf_rl.agents.bcoder.data import (
    Annotated,
    Programs,
    Prompts,
    Source,
    annotate,
    draw_batch,
    draw_programs,
    forced_output,
)
from hinf_rl.agents.bcoder.networks import Networks, PolicyParams, QParts, ValueParams
from hinf_rl.agents.bcoder.optimizer import AdamW
from hinf_rl.errors import UserError
from hinf_rl.ops.bellman_losses import fine_tuning_losses, policy_gradient_loss, value_loss
from hinf_rl.ops.bellman_tokens import log_prob_of, terminal_rewards
from hinf_rl.ops.surrogate import masked_mean
from hinf_rl.types import Array, Metrics, PyTree

_METRICS = (
    "bellman/loss",
    "loss/advantage",
    "loss/cross_entropy",
    "policy/advantage_taken",
    "policy/outcome",
    "train/nonfinite_updates",
    "train/stage_two",
    "value/mean",
)


class Hyperparameters(NamedTuple):
    """Numbers that a sweep may change without compiling again, [] each.

    Attributes:
      alpha: temperature.
      gamma: discount.
      value_learning_rate: of stage one.
      learning_rate: of stage two, at its start.
    """

    alpha: Array
    gamma: Array
    value_learning_rate: Array
    learning_rate: Array


def hyperparameters(config: BCoderConfig) -> Hyperparameters:
    """Returns the configuration's own numbers."""
    return Hyperparameters(
        *(jnp.float32(getattr(config, name)) for name in Hyperparameters._fields)
    )


class Carry(NamedTuple):
    """Everything that training carries; an evaluation needs nothing else.

    Attributes:
      reference: variables of the frozen pre-trained model.
      value, value_optimizer: phi, and the state of its optimiser.
      policy, policy_optimizer: theta, and the state of its optimiser.
      twin: the frozen head h2 of the residual value.
      prompts: the problems.
      human: programs known to be right.
      generated: stored samples of the reference.
      tests: what the judge of new samples needs.
      hyperparameters: numbers in use.
      iteration: [] int32 gradient steps done.
      key: PRNG key.
    """

    reference: PyTree
    value: ValueParams
    value_optimizer: PyTree
    policy: PolicyParams
    policy_optimizer: PyTree
    twin: PyTree
    prompts: Prompts
    human: Annotated
    generated: Annotated
    tests: PyTree
    hyperparameters: Hyperparameters
    iteration: Array
    key: Array


def make(config: BCoderConfig, source: Source) -> Algorithm:
    """Builds the algorithm for one source of problems.

    Stage one fits V_phi under the frozen model's advantages (eq. 12); stage two starts from
    Q_theta = Q_phi and fine-tunes model and residual value (eq. 17). Nothing is sampled during
    training, except by the policy-gradient baseline. Source: B-Coder, section 3.6.

    Args:
      config: the settings; each baseline is one of their values.
      source: pre-trained model, problems and programs.

    Raises:
      UserError: the policy gradient is asked for, and new samples cannot be judged.
    """
    if config.objective == "policy_gradient" and source.judge is None:
        raise UserError(
            "objective = 'policy_gradient' learns from new samples, which this task judges outside "
            "of the compiled step; use objective = 'value'"
        )
    return _Builder(config, source).algorithm()


class _Builder:
    def __init__(self, config: BCoderConfig, source: Source) -> None:
        self._config, self._source = config, source
        self._networks = Networks(source.transformer, config.max_value)
        self._optimizer = AdamW(config.weight_decay)

    def algorithm(self) -> Algorithm:
        return Algorithm(
            init=self.init,
            step=self.step,
            policy=lambda carry: carry.policy.transformer,
            disturber=_no_disturber,
            config=self._config,
            env_steps_per_iteration=self._config.batch_size,
        )

    def init(self, key: Array, numbers: Hyperparameters | None = None) -> Carry:
        """Starts training from `key`; `numbers` overrides the configuration's."""
        key_material, key_networks, next_key = jax.random.split(key, 3)
        material = self._source.material(key_material)
        value, policy, twin = self._networks.init(key_networks, material.reference)
        annotated = (
            annotate(self._source.transformer, material.reference, material.prompts, programs)
            for programs in (material.human, material.generated)
        )
        human, generated = annotated
        carry = Carry(
            reference=material.reference,
            value=value,
            value_optimizer=self._optimizer.init(value),
            policy=policy,
            policy_optimizer=self._optimizer.init(policy),
            twin=twin,
            prompts=material.prompts,
            human=human,
            generated=generated,
            tests=material.tests,
            hyperparameters=hyperparameters(self._config) if numbers is None else numbers,
            iteration=jnp.zeros((), jnp.int32),
            key=next_key,
        )
        # Leaves that start equal must not share a buffer: the carry is donated.
        return jax.tree.map(jnp.copy, carry)

    def step(self, carry: Carry) -> tuple[Carry, Metrics]:
        """One gradient step of the stage that it is time for."""
        key, next_key = jax.random.split(carry.key)
        is_first = carry.iteration < self._config.value_iterations
        second = (
            self._policy_gradient_step
            if self._config.objective == "policy_gradient"
            else self._policy_step
        )
        if self._config.value_iterations:
            carry, metrics = jax.lax.cond(is_first, self._value_step, second, carry, key)
        else:
            carry, metrics = second(carry, key)
        carry = carry._replace(iteration=carry.iteration + jnp.int32(1), key=next_key)
        return carry, metrics

    def _value_step(self, carry: Carry, key: Array) -> tuple[Carry, Metrics]:
        """Stage one: the value alone, under the advantages of the frozen model."""
        batch, _ = self._draw(carry, key)
        programs, numbers = batch.programs, carry.hyperparameters
        reward = terminal_rewards(programs.outcome, programs.mask)
        advantage = numbers.alpha * batch.gap

        def loss(value: ValueParams) -> tuple[Array, Metrics]:
            v = self._networks.stage_one_value(value, carry.prompts, programs)
            per_token = value_loss(advantage, v, reward, programs.mask, numbers.gamma)
            total = masked_mean(per_token, programs.mask)
            return total, {
                "bellman/loss": total,
                "value/mean": masked_mean(v, programs.mask),
                "policy/advantage_taken": masked_mean(advantage, programs.mask),
            }

        gradient, metrics = jax.grad(loss, has_aux=True)(carry.value)
        updated = self._optimizer.update(
            carry.value, carry.value_optimizer, gradient, numbers.value_learning_rate
        )
        carry = carry._replace(value=updated.params, value_optimizer=updated.state)
        return carry, _complete(metrics, updated.nonfinite, is_second=False)

    def _policy_step(self, carry: Carry, key: Array) -> tuple[Carry, Metrics]:
        """Stage two: model and residual value, from stored programs."""
        batch, is_human = self._draw(carry, key)
        raw_value = jnp.zeros(batch.greedy.shape, jnp.float32)
        if self._config.uses_value:
            raw_value = self._networks.raw_value(carry.value, carry.prompts, batch.programs)

        def loss(policy: PolicyParams) -> tuple[Array, Metrics]:
            parts = self._networks.q_parts(
                policy, carry.twin, raw_value, carry.prompts, batch.programs, batch.greedy,
                carry.hyperparameters.alpha,
            )  # fmt: skip
            return self._fine_tuning_loss(carry, batch.programs, is_human, parts)

        gradient, metrics = jax.grad(loss, has_aux=True)(carry.policy)
        return self._update_policy(carry, gradient, metrics)

    def _fine_tuning_loss(
        self, carry: Carry, programs: Programs, is_human: Array, parts: QParts
    ) -> tuple[Array, Metrics]:
        config, numbers, mask = self._config, carry.hyperparameters, programs.mask
        # B* bootstraps from max_b Q = V, since the largest advantage is 0.
        is_conservative = config.operator == "conservative"
        bootstrap = parts.value + parts.greedy if is_conservative else parts.value
        reward = terminal_rewards(programs.outcome, mask)
        losses = fine_tuning_losses(
            parts.logits, parts.value, programs.tokens, bootstrap, reward, mask, is_human,
            alpha=numbers.alpha, gamma=numbers.gamma,
        )  # fmt: skip
        total = (
            config.q_weight * losses.q
            + config.advantage_weight * losses.advantage
            + config.cross_entropy_weight * losses.cross_entropy
        )
        return total, {
            "bellman/loss": losses.q,
            "loss/advantage": losses.advantage,
            "loss/cross_entropy": losses.cross_entropy,
            "policy/advantage_taken": masked_mean(parts.taken, mask),
            "value/mean": masked_mean(parts.value, mask),
        }

    def _policy_gradient_step(self, carry: Carry, key: Array) -> tuple[Carry, Metrics]:
        """REINFORCE: new samples, each against the mean outcome of the others on its problem."""
        config, judge = self._config, self._source.judge
        assert judge is not None  # `make` has seen to it
        key_problem, key_sample = jax.random.split(key)
        groups = config.batch_size // config.group_size
        chosen = jax.random.randint(key_problem, (groups,), 0, carry.prompts.tokens.shape[0])
        problem = jnp.repeat(chosen, config.group_size)
        tokens, mask = draw_programs(
            self._source.transformer,
            self._source.sampling,
            carry.policy.transformer,
            carry.prompts,
            problem,
            key_sample,
        )
        outcome = judge(carry.tests, problem, tokens)
        grouped = outcome.reshape(groups, config.group_size)
        others = (jnp.sum(grouped, axis=1, keepdims=True) - grouped) / (config.group_size - 1)
        programs = Programs(problem, tokens, mask, outcome)

        def loss(policy: PolicyParams) -> tuple[Array, Metrics]:
            logits = forced_output(
                self._source.transformer, policy.transformer, carry.prompts, programs
            ).logits
            per_token = policy_gradient_loss(
                log_prob_of(logits, tokens), outcome, others.reshape(outcome.shape)
            )
            return masked_mean(per_token, mask), {"policy/outcome": jnp.mean(outcome)}

        gradient, metrics = jax.grad(loss, has_aux=True)(carry.policy)
        return self._update_policy(carry, gradient, metrics)

    def _update_policy(
        self, carry: Carry, gradient: PolicyParams, metrics: Metrics
    ) -> tuple[Carry, Metrics]:
        done = (carry.iteration - self._config.value_iterations).astype(jnp.float32)
        left = jnp.maximum(1.0 - done / self._config.policy_iterations, 0.0)
        updated = self._optimizer.update(
            carry.policy,
            carry.policy_optimizer,
            gradient,
            carry.hyperparameters.learning_rate * left,
        )
        carry = carry._replace(policy=updated.params, policy_optimizer=updated.state)
        return carry, _complete(metrics, updated.nonfinite, is_second=True)

    def _draw(self, carry: Carry, key: Array) -> tuple[Annotated, Array]:
        config = self._config
        return draw_batch(carry.human, carry.generated, config.num_human, config.batch_size, key)


def _complete(metrics: Metrics, nonfinite: Array, *, is_second: bool) -> Metrics:
    """Every stage reports the same names; what it does not compute is 0."""
    known = metrics | {
        "train/nonfinite_updates": nonfinite,
        "train/stage_two": jnp.float32(is_second),
    }
    return {name: jnp.asarray(known.get(name, 0.0), jnp.float32) for name in _METRICS}


def _no_disturber(carry: Carry) -> NoReturn:
    raise UserError("bcoder trains no disturber")


__all__ = ["Carry", "Hyperparameters", "hyperparameters", "make"]
