"""What an evaluated episode is reduced to, and the sums kept while it runs."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from hinf_rl.envs.api import EnvSpec, State
from hinf_rl.types import Array

NUM_SECTORS = 16
"""Directions that pushes are sorted into; 0 is centred on the first axis, 4 on the second."""


class Intensity(NamedTuple):
    """How hard a disturbance pushes, without unit: `(|d| / reference)^power`.

    Source: H-infinity locomotion spec, definition (1); power 2 and reference 1 give the cost
    ratio of linear-quadratic theory, the squared gain.
    """

    reference: float
    power: float

    @classmethod
    def of(cls, spec: EnvSpec) -> "Intensity":
        """Share of the limit where there is one, else the squared norm."""
        limit = spec.disturbance.limit
        return cls(limit, 1.0) if np.isfinite(limit) and limit > 0 else cls(1.0, 2.0)


class EpisodeRecord(NamedTuple):
    """What E episodes came to, one entry per environment.

    A fallen environment stays fallen: it is not reset, its task reward is 0 from then on and its
    cost is that of no task reward. An environment that turned non-finite counts as fallen and is
    counted in `nonfinite` too. Time-outs count as survived.

    Attributes:
      survived: [E] bool, no termination and nothing non-finite within the episode.
      nonfinite: [E] bool, lost to numbers that are not finite.
      survival_time_s: [E] time before the fall, the whole episode where there was none.
      task_reward_fraction: [E] mean task reward per step over `task_reward_scale`.
      episode_return: [E] whole reward, summed until the fall.
      cost: [E] mean of `(task_reward_max - task_reward) / task_reward_scale` per step.
      intensity: [E] mean of `Intensity` per step, 0 after a fall.
      force: [E] mean norm of the disturbance until the end, in its unit.
      tracking: named [E] means, until the end, of the metrics whose names end in "error".
      rose: [E, NUM_SECTORS] mean horizontal force until the end, sorted by its direction
        in the disturbance's own frame.
    """

    survived: NDArray[np.bool_]
    nonfinite: NDArray[np.bool_]
    survival_time_s: NDArray[np.float32]
    task_reward_fraction: NDArray[np.float32]
    episode_return: NDArray[np.float32]
    cost: NDArray[np.float32]
    intensity: NDArray[np.float32]
    force: NDArray[np.float32]
    tracking: dict[str, NDArray[np.float32]]
    rose: NDArray[np.float32]

    def rows(self, start: int, stop: int) -> "EpisodeRecord":
        """Returns the record of environments `start` to `stop`."""
        return jax.tree.map(lambda x: x[start:stop], self)


class Tally(NamedTuple):
    """Sums over the episode so far; [E] unless said otherwise."""

    running: Array
    truncated: Array
    nonfinite: Array
    standing_steps: Array
    moved_steps: Array
    horizon_steps: Array
    task_reward: Array
    episode_return: Array
    last_task_reward: Array
    cost: Array
    intensity: Array
    force: Array
    tracking: dict[str, Array]
    rose: Array  # [E, NUM_SECTORS]


def add_step(
    tally: Tally,
    stepped: State,
    *,
    spec: EnvSpec,
    intensity: Intensity,
    healthy: Array,
    in_time: Array,
    force: Array,
) -> tuple[Tally, Array]:
    """Adds one step to the sums of E environments.

    Args:
      tally: the sums before the step.
      stepped: the environments after the step.
      spec: the environment's.
      intensity: how hard a force counts.
      healthy: [E] bool, everything about the step was finite.
      in_time: [] bool, the step lies within the episode.
      force: [E, D] disturbance of the step, finite.

    Returns:
      The sums after it, and [E] whether the environment made the step: it was still running and
      the step was healthy.
    """
    active = tally.running & in_time
    ok = active & healthy
    ended = stepped.terminated | stepped.truncated | ~healthy
    in_horizon = in_time & ~tally.truncated
    size = jnp.linalg.norm(force, axis=-1)

    def sum_ok(total: Array, value: Array) -> Array:
        return total + jnp.where(ok, value, 0.0)

    cost = (spec.task_reward_max - stepped.task_reward) / spec.task_reward_scale
    # Rewards without a lower bound: lying there must not be cheaper than the last step was.
    cost_of_end = (
        spec.task_reward_max - jnp.minimum(tally.last_task_reward, 0.0)
    ) / spec.task_reward_scale
    sectors = _sectors(force)
    return Tally(
        running=tally.running & ~(active & ended),
        truncated=tally.truncated | (ok & stepped.truncated & ~stepped.terminated),
        nonfinite=tally.nonfinite | (active & ~healthy),
        standing_steps=tally.standing_steps + _one(ok & ~stepped.terminated),
        moved_steps=tally.moved_steps + _one(ok),
        horizon_steps=tally.horizon_steps + _one(in_horizon),
        task_reward=sum_ok(tally.task_reward, stepped.task_reward),
        episode_return=sum_ok(tally.episode_return, stepped.reward),
        last_task_reward=jnp.where(ok, stepped.task_reward, tally.last_task_reward),
        cost=tally.cost + jnp.where(in_horizon, jnp.where(ok, cost, cost_of_end), 0.0),
        intensity=sum_ok(
            tally.intensity, (size / intensity.reference) ** jnp.float32(intensity.power)
        ),
        force=sum_ok(tally.force, size),
        tracking={
            name: sum_ok(total, stepped.metrics[name]) for name, total in tally.tracking.items()
        },
        rose=tally.rose + jnp.where(ok[:, None], sectors, 0.0),
    ), ok


def empty_tally(state: State) -> Tally:
    """Returns the sums before the first step of the environments in `state`."""

    def zeros(dtype: Any = jnp.float32, *shape: int) -> Array:
        return jnp.zeros((*state.terminated.shape, *shape), dtype)

    return Tally(
        running=~zeros(bool),
        truncated=zeros(bool),
        nonfinite=zeros(bool),
        standing_steps=zeros(jnp.int32),
        moved_steps=zeros(jnp.int32),
        horizon_steps=zeros(jnp.int32),
        task_reward=zeros(),
        episode_return=zeros(),
        last_task_reward=zeros(),
        cost=zeros(),
        intensity=zeros(),
        force=zeros(),
        tracking={name: zeros() for name in state.metrics if name.endswith("error")},
        rose=zeros(jnp.float32, NUM_SECTORS),
    )


def _one(claim: Array) -> Array:
    return claim.astype(jnp.int32)


def _sectors(force: Array) -> Array:
    """[E, NUM_SECTORS] horizontal force, in the column of its direction."""
    if force.shape[-1] == 0:
        return jnp.zeros((force.shape[0], NUM_SECTORS), jnp.float32)
    along = force[:, 0]
    across = force[:, 1] if force.shape[-1] > 1 else jnp.zeros_like(along)
    angle = jnp.arctan2(across, along)
    sector = jnp.round(angle * (NUM_SECTORS / (2.0 * np.pi))).astype(jnp.int32) % NUM_SECTORS
    return (
        jax.nn.one_hot(sector, NUM_SECTORS, dtype=jnp.float32) * jnp.hypot(along, across)[:, None]
    )


def to_record(tally: Tally, spec: EnvSpec, num_steps: int) -> EpisodeRecord:
    """Returns the record of episodes of `num_steps` steps that ended with these sums."""
    host: Any = jax.device_get(tally)
    moved = np.maximum(host.moved_steps, 1).astype(np.float32)
    horizon = np.maximum(host.horizon_steps, 1).astype(np.float32)
    survived = host.running | host.truncated
    survival_steps = np.where(survived, num_steps, host.standing_steps)
    return EpisodeRecord(
        survived=survived,
        nonfinite=host.nonfinite,
        survival_time_s=(survival_steps * spec.dt_s).astype(np.float32),
        task_reward_fraction=host.task_reward / horizon / np.float32(spec.task_reward_scale),
        episode_return=host.episode_return,
        cost=host.cost / horizon,
        intensity=host.intensity / horizon,
        force=host.force / moved,
        tracking={name: total / moved for name, total in host.tracking.items()},
        rose=host.rose / moved[:, None],
    )


__all__ = [
    "NUM_SECTORS",
    "EpisodeRecord",
    "Intensity",
    "Tally",
    "add_step",
    "empty_tally",
    "to_record",
]
