"""Fine-tuning of a diffusion policy as one pure `init`/`step` pair."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hinf_rl.agents.api import Algorithm
from hinf_rl.agents.prdp.collect import Collector
from hinf_rl.agents.prdp.config import FinetuneConfig, Hyperparameters, hyperparameters
from hinf_rl.agents.prdp.update import Learner, Update
from hinf_rl.diffusion.model import DiffusionModel, sample_chain
from hinf_rl.diffusion.problem import Problem
from hinf_rl.errors import UserError
from hinf_rl.ops.denoising_policy_gradient import ContextStatistics, context_statistics_init
from hinf_rl.types import Array, Metrics, PyTree


class Carry(NamedTuple):
    """Everything that fine-tuning carries."""

    learner: Learner
    reference: PyTree  # parameters of the reference policy
    statistics: ContextStatistics | None  # of the contexts, where advantages need them
    hyperparameters: Hyperparameters
    iteration: Array  # [] int32
    offline_key: Array  # root of the fixed data set
    key: Array


class ChainPolicy(NamedTuple):
    """A diffusion policy with its parameters."""

    params: PyTree
    model: DiffusionModel

    def __call__(self, observation: dict[str, Array], key: Array | None = None) -> Array:
        """Returns [E, D] samples given `observation["policy"]` [E, C]; fixed noise without key."""
        key = jax.random.key(0) if key is None else key
        return sample_chain(key, self.model, self.params, observation["policy"]).sample


def _flatten(policy: ChainPolicy) -> tuple[tuple[Any, Any], tuple[Any, ...]]:
    model = policy.model
    fixed = (model.apply, model.size, model.guidance, model.x0_clip, model.reduce)
    return (policy.params, model.schedule), fixed


def _unflatten(fixed: tuple[Any, ...], leaves: tuple[Any, Any]) -> ChainPolicy:
    params, schedule = leaves
    apply, size, guidance, x0_clip, reduce = fixed
    return ChainPolicy(params, DiffusionModel(apply, schedule, size, guidance, x0_clip, reduce))


# Only the arrays are leaves: a policy is an argument of compiled evaluations.
jax.tree_util.register_pytree_node(ChainPolicy, _flatten, _unflatten)


def make(config: FinetuneConfig, problem: Problem) -> Algorithm:
    """Builds the algorithm that fine-tunes the policy of `problem`.

    One iteration draws groups of trajectories, queries each reward once, and descends on the
    objective for some epochs. Source: Deng et al. 2024 (PRDP), algorithm 1; the policy gradients
    (DDPO, Black et al. 2024) differ in the loss alone.

    `init` takes `reference`, parameters of a trained reference policy; without it, the problem's
    own pre-training is run.

    Args:
      config: the settings; each baseline is one of their values.
      problem: the policy and what pays.

    Raises:
      UserError: the settings ask of the problem what it does not have, or its functions do not
        fit together; the message says which.
    """
    _check(config, problem)
    return _Builder(config, problem).algorithm()


class _Builder:
    def __init__(self, config: FinetuneConfig, problem: Problem) -> None:
        self._config, self._problem = config, problem
        self._collect = Collector(config, problem)
        self._update = Update(config, self._collect.log_prob)

    def algorithm(self) -> Algorithm:
        return Algorithm(
            init=self.init,
            step=self.step,
            policy=self.policy,
            disturber=self.disturber,
            config=self._config,
            env_steps_per_iteration=self._config.batch_size,
        )

    def init(
        self,
        key: Array,
        numbers: Hyperparameters | None = None,
        reference: PyTree | None = None,
    ) -> Carry:
        """Starts from `reference`; `numbers` overrides the configuration's."""
        key_reference, offline_key, next_key = jax.random.split(key, 3)
        if reference is None:
            reference = self._problem.pretrain(key_reference)
        statistics = None
        if self._config.advantage == "context":
            statistics = context_statistics_init(
                self._problem.num_context_ids, self._config.context_buffer
            )
        carry = Carry(
            learner=Learner(reference, self._update.init(reference)),
            reference=reference,
            statistics=statistics,
            hyperparameters=hyperparameters(self._config) if numbers is None else numbers,
            iteration=jnp.zeros((), jnp.int32),
            offline_key=offline_key,
            key=next_key,
        )
        # Leaves that start equal must not share a buffer: the carry is donated.
        return jax.tree.map(jnp.copy, carry)

    def step(self, carry: Carry) -> tuple[Carry, Metrics]:
        """One iteration: collection, then epochs of updates."""
        key_collect, key_update, next_key = jax.random.split(carry.key, 3)
        if self._config.offline_batches is not None and self._config.source == "offline":
            turn = carry.iteration % jnp.int32(self._config.offline_batches)
            key_collect = jax.random.fold_in(carry.offline_key, turn)
        numbers = carry.hyperparameters
        batch, statistics, metrics = self._collect(
            key_collect, carry.learner.params, carry.reference, carry.statistics, numbers
        )
        learner, update_metrics = self._update(key_update, carry.learner, batch, numbers)
        carry = carry._replace(
            learner=learner,
            statistics=statistics,
            iteration=carry.iteration + jnp.int32(1),
            key=next_key,
        )
        metrics = metrics | update_metrics
        return carry, {name: jnp.asarray(metrics[name], jnp.float32) for name in sorted(metrics)}

    def policy(self, carry: Carry) -> ChainPolicy:
        """The fine-tuned policy."""
        return ChainPolicy(carry.learner.params, self._problem.model)

    def disturber(self, carry: Carry) -> None:
        """Nobody disturbs."""
        return None


def _check(config: FinetuneConfig, problem: Problem) -> None:
    if config.advantage == "context" and problem.context_ids is None:
        raise UserError(
            f"contexts of {problem.name!r} never return: use advantage = 'group' or 'batch'"
        )
    num_steps = problem.model.schedule.num_steps
    if problem.num_decisions != problem.num_chunks * num_steps:
        raise UserError(
            f"problem {problem.name!r} promises {problem.num_decisions} decisions for "
            f"{problem.num_chunks} chains of {num_steps} steps; give num_chunks * steps"
        )
    rows = config.batch_size // config.num_minibatches * problem.num_decisions
    if config.microbatch is not None and rows % config.microbatch:
        raise UserError(
            f"microbatch must divide the {rows} denoising steps of a minibatch, got "
            f"{config.microbatch}"
        )
    _check_shapes(config, problem)


def _check_shapes(config: FinetuneConfig, problem: Problem) -> None:
    """Traces the problem's functions on a batch, without computing anything."""
    count = config.batch_size
    key = jax.eval_shape(lambda: jax.random.key(0))
    params = jax.eval_shape(problem.pretrain, key)
    context = jax.eval_shape(lambda key: problem.draw_contexts(key, count), key)
    _require_shape(problem, "draw_contexts", context, (count, problem.context_size))
    found = jax.eval_shape(problem.rollout, key, params, context)
    points = (count, problem.num_decisions, problem.model.size)
    _require_shape(problem, "rollout", found.decisions.x_next, points)
    _require_shape(problem, "rollout", found.decisions.step, points[:2])
    reward = jax.eval_shape(problem.reward, found.outcome, context)
    if config.reward_weights is None:
        _require_shape(problem, "reward", reward, (count,))
    else:
        _require_shape(problem, "reward", reward, (count, len(config.reward_weights)))


def _require_shape(problem: Problem, name: str, found: jax.Array, expected: tuple) -> None:
    shape = getattr(found, "shape", None)
    if shape != expected:
        hint = ""
        if name == "reward" and shape is not None and len(shape) == 2:
            hint = "; set reward_weights, one number for each reward"
        raise UserError(
            f"{name} of problem {problem.name!r} returns shape {shape} for {expected[0]} "
            f"trajectories, expected {expected}{hint}"
        )


__all__ = ["Carry", "ChainPolicy", "make"]
