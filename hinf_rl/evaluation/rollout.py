"""One episode per environment under a disturbance, reduced to numbers while it runs."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from hinf_rl.envs.api import Env, State
from hinf_rl.errors import UserError
from hinf_rl.evaluation.disturbances import Disturbance, row_keys
from hinf_rl.evaluation.record import (
    EpisodeRecord,
    Intensity,
    Tally,
    add_step,
    empty_tally,
    to_record,
)
from hinf_rl.types import Array, PyTree

_CHUNK_STEPS = 100  # steps of one compiled call: progress can be told between two

Progress = Callable[[int, int, float], None]
"""Called with steps done, steps in all, and seconds left (estimated)."""


class Evaluator:
    """Runs episodes of one environment; policies and disturbances may change between calls.

    Compiled once per shape: the policy and the disturbance are arguments, not constants.
    """

    def __init__(self, env: Env, *, intensity: Intensity | None = None) -> None:
        self._env = env
        self._intensity = intensity or Intensity.of(env.spec)
        self._reset = jax.jit(jax.vmap(env.reset))
        self._advance = jax.jit(self._chunk)

    @property
    def env(self) -> Env:
        """The environment of one instance."""
        return self._env

    def __call__(
        self,
        policy: Any,
        disturbance: Disturbance,
        key: Array,
        *,
        num_envs: int,
        num_steps: int | None = None,
        num_starts: int | None = None,
        progress: Progress | None = None,
    ) -> EpisodeRecord:
        """Runs one episode in each of `num_envs` environments; see `evaluate`."""
        num_steps = num_steps or self._env.spec.episode_length
        num_starts = num_starts or num_envs
        if num_envs < 1 or num_steps < 1 or num_starts < 1:
            raise UserError(
                f"num_envs, num_steps and num_starts must be at least 1, got {num_envs}, "
                f"{num_steps} and {num_starts}"
            )
        key_env, key_force = jax.random.split(key)
        state = self._reset(row_keys(key_env, num_envs, num_starts))
        tally = empty_tally(state)
        force_state = disturbance.init(key_force, num_envs)
        begin = time.monotonic()
        for start in range(0, num_steps, _CHUNK_STEPS):
            state, tally = self._advance(
                policy,
                disturbance,
                force_state,
                state,
                tally,
                jnp.int32(start),
                jnp.int32(num_steps),
            )
            done = min(start + _CHUNK_STEPS, num_steps)
            if progress is not None:
                jax.block_until_ready(tally)
                left = (time.monotonic() - begin) * (num_steps - done) / done
                progress(done, num_steps, left)
        return to_record(tally, self._env.spec, num_steps)

    def _chunk(
        self,
        policy: Any,
        disturbance: Disturbance,
        force_state: PyTree,
        state: State,
        tally: Tally,
        start: Array,
        num_steps: Array,
    ) -> tuple[State, Tally]:
        """Advances all environments by `_CHUNK_STEPS`, of which those past the end do nothing."""

        def body(carry: tuple[State, Tally], t: Array) -> tuple[tuple[State, Tally], None]:
            state, tally = carry
            force = disturbance.sample(force_state, state.observation, t)
            stepped, healthy, force = self._step(policy, state, force)
            tally, moved = add_step(
                tally,
                stepped,
                spec=self._env.spec,
                intensity=self._intensity,
                healthy=healthy,
                in_time=t < num_steps,
                force=force,
            )
            # An environment whose episode ended rests in its last finite state.
            return (select_rows(moved, stepped, state), tally), None

        steps = start + jnp.arange(_CHUNK_STEPS, dtype=jnp.int32)
        return jax.lax.scan(body, (state, tally), steps)[0]

    def _step(self, policy: Any, state: State, force: Array) -> tuple[State, Array, Array]:
        action = policy(state.observation)
        healthy = finite_rows((action, force))
        # Never hand NaN to the physics: native MuJoCo answers it with a silent reset.
        action, force = (jnp.where(jnp.isfinite(x), x, 0.0) for x in (action, force))
        keys = jax.vmap(jax.random.split)(state.key)[:, 0]
        stepped = jax.vmap(self._env.step)(dataclasses.replace(state, key=keys), action, force)
        parts = (stepped.physics, stepped.observation, stepped.reward, stepped.task_reward)
        healthy &= finite_rows((parts, stepped.metrics))
        if "nonfinite" in stepped.metrics:
            healthy &= stepped.metrics["nonfinite"] <= 0
        return stepped, healthy, force


def evaluate(
    env: Env,
    policy: Any,
    disturbance: Disturbance,
    key: Array,
    *,
    num_envs: int,
    num_steps: int | None = None,
    num_starts: int | None = None,
    progress: Progress | None = None,
) -> EpisodeRecord:
    """Runs one episode in each of `num_envs` environments and reduces it to a record.

    Memory does not grow with the episode. To run many evaluations of one environment without
    compiling again, keep an `Evaluator`.

    Args:
      env: the environment of one instance.
      policy: PyTree that maps batched observations to actions; its mean is used.
      disturbance: what pushes; see `hinf_rl.evaluation.disturbances`.
      key: held out from training; start states and pushes follow from it.
      num_envs: environments E.
      num_steps: episode length in control steps; the spec's by default.
      num_starts: number of different start states: environment i begins like environment
        i - num_starts, so that blocks of a batch can be compared pair by pair. Default: E.
      progress: called after each part of the episode.
    """
    return Evaluator(env)(
        policy,
        disturbance,
        key,
        num_envs=num_envs,
        num_steps=num_steps,
        num_starts=num_starts,
        progress=progress,
    )


def finite_rows(tree: PyTree) -> Array:
    """Returns [E] bool: every float of the row is finite, in all leaves [E, ...]."""
    rows = [
        jnp.all(jnp.isfinite(leaf).reshape(leaf.shape[0], -1), axis=1)
        for leaf in jax.tree.leaves(tree)
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
    ]
    return jnp.all(jnp.stack(rows), axis=0)


def select_rows(choose_first: Array, first: PyTree, second: PyTree) -> PyTree:
    """Chooses between rows of two trees with leaves [E, ...] by a [E] bool."""

    def choose(a: Array, b: Array) -> Array:
        return jnp.where(choose_first.reshape(choose_first.shape + (1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(choose, first, second)


__all__ = ["Evaluator", "Progress", "evaluate", "finite_rows", "select_rows"]
