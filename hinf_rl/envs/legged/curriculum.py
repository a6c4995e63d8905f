"""Which tile an episode begins on: up a level where the last one was crossed, else down."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from hinf_rl.envs.legged.config import TerrainConfig
from hinf_rl.types import Array


class Visit(NamedTuple):
    """What an episode remembers of its way over the terrain.

    Attributes:
      level: [] int32, of the tile that it began on.
      column: [] int32, of that tile.
      start_m: [2] position where it began; moves with the robot where the world wraps.
      furthest_m: [] largest distance from there so far.
      asked_m: [] distance that the commands asked for so far.
    """

    level: Array
    column: Array
    start_m: Array
    furthest_m: Array
    asked_m: Array


def begin_visit(level: Array, column: Array, start_m: Array) -> Visit:
    """A visit that begins at `start_m` [2] on the tile at `level` [] and `column` []."""
    zero = jnp.zeros((), jnp.float32)
    return Visit(level, column, start_m, furthest_m=zero, asked_m=zero)


def advance_visit(visit: Visit, position_m: Array, asked_m: Array) -> Visit:
    """The visit after a step to `position_m` [2] whose command asked for `asked_m` []."""
    distance = jnp.linalg.norm(position_m - visit.start_m)
    return visit._replace(
        furthest_m=jnp.maximum(visit.furthest_m, distance), asked_m=visit.asked_m + asked_m
    )


def first_tile(key: Array, config: TerrainConfig) -> tuple[Array, Array]:
    """Draws the level and the column of an environment's first episode, [] int32 each."""
    key_level, key_column = jax.random.split(key)
    column = jax.random.randint(key_column, (), 0, config.num_columns, jnp.int32)
    if config.level is not None:
        return jnp.full((), config.level, jnp.int32), column
    highest = min(config.first_level_max, config.num_levels - 1)
    return jax.random.randint(key_level, (), 0, highest + 1, jnp.int32), column


def next_level(key: Array, visit: Visit, asked_m: Array, config: TerrainConfig) -> Array:
    """The level [] int32 of the episode after `visit`.

    One up where the robot went further than half a tile (the tables' 4 m), else one down where
    it went less than half of what was asked for; any level with equal chance once the highest
    is passed. Source: the public legged-robot terrain tables; "went" is the largest distance from
    the start, so that a command to come back does not count against the robot.

    Args:
      key: consumed.
      visit: how the last episode went.
      asked_m: [] distance that the whole episode asks for, to its time limit.
      config: with `level` set, the level stays.
    """
    if config.level is not None:
        return visit.level
    is_up = visit.furthest_m > config.tile_m / 2
    is_down = ~is_up & (visit.furthest_m < 0.5 * asked_m)
    level = visit.level + is_up.astype(jnp.int32) - is_down.astype(jnp.int32)
    anywhere = jax.random.randint(key, (), 0, config.num_levels, jnp.int32)
    return jnp.where(level >= config.num_levels, anywhere, jnp.maximum(level, 0))


__all__ = ["Visit", "advance_visit", "begin_visit", "first_tile", "next_level"]
