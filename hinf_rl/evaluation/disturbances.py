"""Disturbances that an evaluation applies: none, scripted, or a learned attacker.

Each is a PyTree of `init(key, num_envs) -> state` and `sample(state, observation, t) -> force`,
both pure. The state is drawn once per episode and `sample` depends on it, on the observation and
on the step only, so that a disturbance can be replayed. `magnitude` is a leaf with one entry per
environment: environments of one batch may be pushed differently hard.
"""

from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import struct

from hinf_rl.envs.api import EnvSpec
from hinf_rl.errors import UserError
from hinf_rl.types import Array, PyTree

HOLD_S = 0.2
"""How long a scripted force keeps its direction, in seconds."""

PERIOD_S = 3.0
"""From the start of one sudden push to the start of the next, in seconds."""

FIRST_PUSH_S = 1.0
"""Start of the first sudden push: an episode ends long enough after its last one to show it."""


_TINY = 1e-20  # keeps a division finite where the vector is zero


class Disturbance(Protocol):
    """What pushes a batch of E environments for one episode."""

    def init(self, key: Array, num_envs: int) -> PyTree:
        """Draws what the episode's forces depend on; leaves are [E, ...]."""
        ...

    def sample(self, state: PyTree, observation: dict[str, Array], t: Array) -> Array:
        """Returns the [E, D] force of step `t` (int32, from 0), in the spec's unit."""
        ...


@struct.dataclass
class Quiet:
    """No disturbance: the nominal system.

    Attributes:
      size: number of components D.
    """

    size: int = struct.field(pytree_node=False)

    def init(self, key: Array, num_envs: int) -> Array:
        """Returns one row per environment; the key is not needed."""
        del key
        return jnp.zeros((num_envs, self.size), jnp.float32)

    def sample(self, state: Array, observation: dict[str, Array], t: Array) -> Array:
        """Returns [E, D] zeros."""
        del observation, t
        return state


@struct.dataclass
class Continuous:
    """A force that never rests: a new random direction every `hold_steps` steps.

    Source: H-infinity locomotion paper, test under continuous forces (our reading, T4).

    Attributes:
      magnitude: [E] or [] length of the force, in the spec's unit.
      size: number of components D.
      hold_steps: control steps between two draws.
      num_streams: rows i and i + num_streams are pushed in the same directions; None: no two are.
      fill_ball: draw uniformly from the ball of radius `magnitude` instead of its surface.
    """

    magnitude: Array
    size: int = struct.field(pytree_node=False)
    hold_steps: int = struct.field(pytree_node=False)
    num_streams: int | None = struct.field(pytree_node=False, default=None)
    fill_ball: bool = struct.field(pytree_node=False, default=False)

    def init(self, key: Array, num_envs: int) -> Array:
        """Returns [E] keys."""
        return row_keys(key, num_envs, self.num_streams)

    def sample(self, state: Array, observation: dict[str, Array], t: Array) -> Array:
        """Returns the [E, D] force of step `t`."""
        del observation
        keys = _fold(state, t // self.hold_steps)
        unit = jax.vmap(lambda key: _direction(key, self.size, self.size))(keys)
        length = jnp.broadcast_to(self.magnitude, keys.shape)
        if self.fill_ball:
            # A ball's volume grows with radius^D: the D-th root makes the density uniform.
            share = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 1)))(keys)
            length = length * share ** (1.0 / self.size)
        return length[:, None] * unit


@struct.dataclass
class Sudden:
    """A push of full size for `hold_steps` steps, once in every `period_steps`, else nothing.

    The direction is horizontal where the force has three components (world frame, z up).
    Source: H-infinity locomotion paper, test under sudden forces (our reading, T4).

    Attributes:
      magnitude: [E] or [] length of the push, in the spec's unit.
      size: number of components D.
      hold_steps: control steps that a push lasts.
      period_steps: control steps from one push to the next.
      first_step: control step at which the first push starts.
      num_streams: rows i and i + num_streams are pushed in the same directions; None: no two are.
    """

    magnitude: Array
    size: int = struct.field(pytree_node=False)
    hold_steps: int = struct.field(pytree_node=False)
    period_steps: int = struct.field(pytree_node=False)
    first_step: int = struct.field(pytree_node=False)
    num_streams: int | None = struct.field(pytree_node=False, default=None)

    def init(self, key: Array, num_envs: int) -> Array:
        """Returns [E] keys."""
        return row_keys(key, num_envs, self.num_streams)

    def sample(self, state: Array, observation: dict[str, Array], t: Array) -> Array:
        """Returns the [E, D] force of step `t`."""
        del observation
        since_first = t - self.first_step
        is_pushing = (since_first >= 0) & (since_first % self.period_steps < self.hold_steps)
        keys = _fold(state, jnp.maximum(since_first, 0) // self.period_steps)
        free = 2 if self.size == 3 else self.size
        unit = jax.vmap(lambda key: _direction(key, self.size, free))(keys)
        length = jnp.where(is_pushing, jnp.broadcast_to(self.magnitude, keys.shape), 0.0)
        return length[:, None] * unit


@struct.dataclass
class Attacker:
    """A learned disturber, scaled and then radially clipped.

    Attributes:
      policy: maps observations to [E, D] forces of length up to `limit`; its mean is used.
      magnitude: [E] or [] length that the force may not exceed, in the spec's unit.
      limit: length that the policy was trained with; its output is scaled by magnitude / limit.
    """

    policy: Any
    magnitude: Array
    limit: float = struct.field(pytree_node=False)

    def init(self, key: Array, num_envs: int) -> Array:
        """Returns [E] magnitudes; the key is not needed."""
        del key
        return jnp.broadcast_to(jnp.asarray(self.magnitude, jnp.float32), (num_envs,))

    def sample(self, state: Array, observation: dict[str, Array], t: Array) -> Array:
        """Returns the [E, D] force that answers `observation`."""
        del t
        scale = state / self.limit
        return radial_clip(self.policy(observation) * scale[:, None], state)


@struct.dataclass
class Blocks:
    """Several disturbances in one batch: the first on the first `counts[0]` rows, and so on.

    A whole grid of tests so runs as one batch, compiled once. All parts draw from the same
    keys: row i of two parts of one kind is pushed in the same directions.

    Attributes:
      parts: the disturbances.
      counts: number of environments of each; their sum is E.
    """

    parts: tuple[Any, ...]
    counts: tuple[int, ...] = struct.field(pytree_node=False)

    def init(self, key: Array, num_envs: int) -> tuple[PyTree, ...]:
        """Returns the states of the parts."""
        if len(self.parts) != len(self.counts) or sum(self.counts) != num_envs:
            raise UserError(
                f"{len(self.parts)} blocks of {self.counts} environments do not fill a batch of "
                f"{num_envs}; give one count per block, with that sum"
            )
        return tuple(
            part.init(key, count) for part, count in zip(self.parts, self.counts, strict=True)
        )

    def sample(self, state: tuple[PyTree, ...], observation: dict[str, Array], t: Array) -> Array:
        """Returns the [E, D] forces of step `t`."""
        forces, start = [], 0
        for part, part_state, count in zip(self.parts, state, self.counts, strict=True):
            rows = jax.tree.map(lambda x, a=start, b=start + count: x[a:b], observation)
            forces.append(part.sample(part_state, rows, t))
            start += count
        return jnp.concatenate(forces)


def continuous(
    spec: EnvSpec,
    magnitude: Array | float,
    *,
    num_streams: int | None = None,
    fill_ball: bool = False,
) -> Continuous:
    """Returns the continuous force of an environment, redrawn every `HOLD_S` seconds."""
    return Continuous(
        magnitude=jnp.asarray(magnitude, jnp.float32),
        size=_size(spec),
        hold_steps=_steps(HOLD_S, spec),
        num_streams=num_streams,
        fill_ball=fill_ball,
    )


def sudden(spec: EnvSpec, magnitude: Array | float, *, num_streams: int | None = None) -> Sudden:
    """Returns the sudden pushes of an environment: `HOLD_S` long, every `PERIOD_S` seconds."""
    return Sudden(
        magnitude=jnp.asarray(magnitude, jnp.float32),
        size=_size(spec),
        hold_steps=_steps(HOLD_S, spec),
        period_steps=_steps(PERIOD_S, spec),
        first_step=_steps(FIRST_PUSH_S, spec),
        num_streams=num_streams,
    )


def radial_clip(force: Array, limit: Array | float) -> Array:
    """Shortens vectors to `limit` where they are longer: `F min(1, limit / |F|)`.

    Args:
      force: [..., D] vectors.
      limit: [...] or [] largest Euclidean norm, same unit.

    Returns:
      [..., D] vectors of the same direction.
    """
    norm = jnp.linalg.norm(force, axis=-1)
    scale = jnp.where(norm > limit, limit / jnp.maximum(norm, _TINY), 1.0)
    return force * scale[..., None]


def row_keys(key: Array, num_rows: int, num_streams: int | None = None) -> Array:
    """Returns [E] keys; row i depends on `key` and on i modulo `num_streams` only."""
    rows = jnp.arange(num_rows, dtype=jnp.uint32)
    if num_streams is not None:
        rows %= jnp.uint32(num_streams)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, rows)


def _fold(keys: Array, number: Array) -> Array:
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, number)


def _direction(key: Array, size: int, free: int) -> Array:
    """[D] unit vector, uniform over the sphere of its first `free` components."""
    normal = jax.random.normal(key, (size,), jnp.float32)
    normal = jnp.where(jnp.arange(size) < free, normal, 0.0)
    return normal / jnp.maximum(jnp.linalg.norm(normal), _TINY)


def _size(spec: EnvSpec) -> int:
    if spec.disturbance.size < 1:
        raise UserError(f"task {spec.name!r} takes no disturbance: it has a nominal test only")
    return spec.disturbance.size


def _steps(seconds: float, spec: EnvSpec) -> int:
    return max(1, round(seconds / spec.dt_s))


__all__ = [
    "FIRST_PUSH_S",
    "HOLD_S",
    "PERIOD_S",
    "Attacker",
    "Blocks",
    "Continuous",
    "Disturbance",
    "Quiet",
    "Sudden",
    "continuous",
    "radial_clip",
    "row_keys",
    "sudden",
]
