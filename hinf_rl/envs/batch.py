"""Many instances of one environment: episode ends, fresh resets and the finite guard."""

import dataclasses
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from hinf_rl.envs.api import Env, EnvSpec, State, restart
from hinf_rl.errors import UserError
from hinf_rl.partition import by_rows
from hinf_rl.types import Array, PyTree


@struct.dataclass
class BatchState:
    """E instances between two steps.

    Attributes:
      env: the batched `State`; `env.observation` is what to act on next.
      step_count: [E] int32, position in the episode; truncation comes at `spec.episode_length`.
      episode_start: [E] int32, `step_count` at which the running episode began (0 unless
        the very first reset was staggered).
      episode_return: [E] reward summed over the running episode.
      episode_task_return: [E] task reward summed over the running episode.
    """

    env: State
    step_count: Array
    episode_start: Array
    episode_return: Array
    episode_task_return: Array


class Step(NamedTuple):
    """What E instances produced in one step, before any reset.

    Attributes:
      observation: {"policy": [E, O], "privileged": [E, P]}, the true next (at an episode's end:
        final) observation; bootstrap from it where `truncated`.
      reward: [E] whole reward; 0 where not `valid`.
      task_reward: [E] task part of the reward; 0 where not `valid`.
      terminated: [E] bool, no value follows.
      truncated: [E] bool, the value of `observation` follows; never together with `terminated`.
      valid: [E] bool; False where something was not finite: leave the step out of the loss.
      metrics: named [E] scalars.
      episode_return: [E] return of the episode so far, this step included.
      episode_task_return: [E] task return of the episode so far, this step included.
      episode_length: [E] int32 steps of the episode so far, this step included.
    """

    observation: dict[str, Array]
    reward: Array
    task_reward: Array
    terminated: Array
    truncated: Array
    valid: Array
    metrics: dict[str, Array]
    episode_return: Array
    episode_task_return: Array
    episode_length: Array

    @property
    def done(self) -> Array:
        """[E] bool, the episode ended with this step; its statistics are complete."""
        return self.terminated | self.truncated


class BatchEnv:
    """`num_envs` instances of `env`, each with its own keys and episodes.

    Finite guard: where the given action or disturbance, or anything in the stepped physics,
    observation, rewards or metrics is not finite, or the environment reports a metric
    "nonfinite" > 0, the step counts as invalid: no reward, truncated, last finite observation,
    instance reset. Other instances are not touched.

    The layer does not bound disturbances: whoever makes them keeps each row's Euclidean norm
    within `spec.disturbance.limit`.
    """

    def __init__(self, env: Env, num_envs: int) -> None:
        if num_envs < 1:
            raise UserError(f"num_envs must be at least 1, got {num_envs}")
        self._env = env
        self._num_envs = num_envs

    @property
    def env(self) -> Env:
        """The environment of one instance."""
        return self._env

    @property
    def spec(self) -> EnvSpec:
        """Sizes, rates and bounds of one instance."""
        return self._env.spec

    @property
    def num_envs(self) -> int:
        """Number of instances E."""
        return self._num_envs

    def reset(self, key: Array, *, stagger: bool = False) -> BatchState:
        """Starts an episode in every instance.

        Args:
          key: consumed.
          stagger: start each first episode's clock at random in [0, episode_length), so that
            time-outs of different instances do not fall on the same step.
        """
        key_env, key_count = jax.random.split(key)
        env_state = self._reset(jax.random.split(key_env, self._num_envs))
        start = jnp.zeros((self._num_envs,), jnp.int32)
        if stagger:
            start = jax.random.randint(
                key_count, (self._num_envs,), 0, self.spec.episode_length, dtype=jnp.int32
            )
        zero = jnp.zeros((self._num_envs,), jnp.float32)
        return BatchState(
            env=env_state,
            step_count=start,
            episode_start=start,
            episode_return=zero,
            episode_task_return=zero,
        )

    def step(
        self, state: BatchState, action: Array, disturbance: Array | None = None
    ) -> tuple[BatchState, Step]:
        """Advances every instance by one control step and resets those whose episode ended.

        Args:
          state: the state to advance.
          action: [E, A] actions.
          disturbance: [E, D] in the spec's unit, or None for the nominal system.

        Returns:
          The next state, whose observation belongs to a fresh episode where this one ended,
          and what the step produced, with the true final observation.

        Raises:
          UserError: action or disturbance has the wrong shape, or the environment's reset and
            step return different structures.
        """
        self._check_shapes(action, disturbance)
        env_key, reset_key = _split_each(state.env.key)
        given_finite = _finite_rows((action, disturbance), self._num_envs)
        # Never hand NaN to the physics: native MuJoCo answers it with a silent reset.
        action, disturbance = _zero_nonfinite((action, disturbance))
        env_state = dataclasses.replace(state.env, key=env_key)
        stepped = by_rows(jax.vmap(self._env.step))(env_state, action, disturbance)
        valid = given_finite & _healthy(stepped, self._num_envs)
        step = self._summarise(state, stepped, valid)

        fresh = by_rows(jax.vmap(partial(restart, self._env)))(reset_key, stepped)
        _check_same_structure(fresh, stepped)
        ended = step.done
        count = state.step_count + jnp.int32(1)
        next_state = BatchState(
            env=_select(ended, fresh, stepped),
            step_count=jnp.where(ended, jnp.int32(0), count),
            episode_start=jnp.where(ended, jnp.int32(0), state.episode_start),
            episode_return=jnp.where(ended, jnp.float32(0), step.episode_return),
            episode_task_return=jnp.where(ended, jnp.float32(0), step.episode_task_return),
        )
        return next_state, step

    def _reset(self, keys: Array) -> State:
        return by_rows(jax.vmap(self._env.reset))(keys)

    def _summarise(self, state: BatchState, stepped: State, valid: Array) -> Step:
        reward = jnp.where(valid, stepped.reward, jnp.float32(0))
        task_reward = jnp.where(valid, stepped.task_reward, jnp.float32(0))
        count = state.step_count + jnp.int32(1)
        terminated = stepped.terminated & valid
        cut_short = stepped.truncated | (count >= self.spec.episode_length) | ~valid
        return Step(
            observation=_select(valid, stepped.observation, state.env.observation),
            reward=reward,
            task_reward=task_reward,
            terminated=terminated,
            truncated=cut_short & ~terminated,
            valid=valid,
            metrics=_zero_nonfinite(stepped.metrics),
            episode_return=state.episode_return + reward,
            episode_task_return=state.episode_task_return + task_reward,
            episode_length=count - state.episode_start,
        )

    def _check_shapes(self, action: Array, disturbance: Array | None) -> None:
        given = [("action", action, self.spec.action_size)]
        if disturbance is not None:
            given.append(("disturbance", disturbance, self.spec.disturbance.size))
        for name, value, size in given:
            expected = (self._num_envs, size)
            if jnp.shape(value) != expected:
                raise UserError(
                    f"{name} of {self.spec.name!r} has shape {jnp.shape(value)}, expected "
                    f"{expected} = (num_envs, {name} size)"
                )


def _split_each(key: Array) -> tuple[Array, Array]:
    """Splits [E] keys into two times [E] keys."""
    pairs = jax.vmap(jax.random.split)(key)
    return pairs[:, 0], pairs[:, 1]


def _is_float(leaf: Array) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jnp.inexact))


def _finite_rows(tree: PyTree, num_envs: int) -> Array:
    """[E] bool: every float of the row, in every leaf [E, ...], is finite."""
    finite = [
        jnp.isfinite(leaf).reshape(num_envs, -1)
        for leaf in jax.tree.leaves(tree)
        if _is_float(leaf)
    ]
    # One reduction instead of one per leaf: small batches are nothing but the number of kernels.
    # The column of True stands for trees without floats.
    return jnp.all(jnp.concatenate([jnp.ones((num_envs, 1), bool), *finite], axis=1), axis=1)


def _healthy(stepped: State, num_envs: int) -> Array:
    """[E] bool: the stepped state is finite and the environment reports no trouble itself."""
    healthy = _finite_rows(
        (
            stepped.physics,
            stepped.observation,
            stepped.reward,
            stepped.task_reward,
            stepped.metrics,
        ),
        num_envs,
    )
    if "nonfinite" in stepped.metrics:
        healthy &= stepped.metrics["nonfinite"] <= 0
    return healthy


def _zero_nonfinite(tree: PyTree) -> PyTree:
    """Replaces every float that is not finite by 0."""
    return jax.tree.map(
        lambda x: jnp.where(jnp.isfinite(x), x, jnp.zeros_like(x)) if _is_float(x) else x, tree
    )


def _select(choose_first: Array, first: PyTree, second: PyTree) -> PyTree:
    """Row-wise choice between two trees with leaves [E, ...], by a [E] bool."""

    def choose(a: Array, b: Array) -> Array:
        return jnp.where(choose_first.reshape(choose_first.shape + (1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(choose, first, second)


def _check_same_structure(fresh: State, stepped: State) -> None:
    if jax.tree.structure(fresh) != jax.tree.structure(stepped):
        raise UserError(
            "reset and step of an environment must return the same structure (the same metrics, "
            f"observations and physics), got {jax.tree.structure(fresh)} from reset and "
            f"{jax.tree.structure(stepped)} from step"
        )


__all__ = ["BatchEnv", "BatchState", "Step"]
