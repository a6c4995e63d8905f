"""A world of terrain tiles without an end: its heights, as MuJoCo collides with them, in JAX.

Levels lie along x, columns (each of one kind) along y, centred on the world's origin. Beyond its
last tile the world goes on with its first one: a border repeats the other side, and a robot that
reaches it is moved by a whole period to where the ground is the same.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from hinf_rl.envs.legged.config import TerrainConfig
from hinf_rl.envs.legged.heights import (
    PATCH_M,
    TILE_KINDS,
    HeightField,
    tile_grip,
    tile_heights,
)
from hinf_rl.types import Array

BORDER_M = 1.6
"""Width of the repeated border: more than a robot's reach and what it moves in a control step."""


@struct.dataclass
class Terrain:
    """One period of the world.

    Attributes:
      heights: [Y, X] float32, of the vertices in m; rows along y from the lowest, columns along x.
      grip: [Y', X'] float32, share of friction left on each patch; None where all is 1.
      cell_m: distance of vertices.
      tile_m: side of a tile.
      first_level: level of the first tile along x.
    """

    heights: Array
    grip: Array | None
    cell_m: float = struct.field(pytree_node=False)
    tile_m: float = struct.field(pytree_node=False)
    first_level: int = struct.field(pytree_node=False)

    @property
    def period_m(self) -> tuple[float, float]:
        """Size of the world along x and y."""
        rows, columns = self.heights.shape
        return columns * self.cell_m, rows * self.cell_m


@struct.dataclass
class Surface:
    """The ground at some points.

    Attributes:
      height: [...] m.
      slope_x, slope_y: [...] rise over run along x and y.
    """

    height: Array
    slope_x: Array
    slope_y: Array


def build_terrain(config: TerrainConfig) -> tuple[Terrain, HeightField]:
    """Builds the world that `config` describes; its kind must not be "flat".

    Returns:
      The world for JAX, and the same with its border for a MuJoCo model.
    """
    num_cells = round(config.tile_m / config.cell_m)
    num_patches = round(config.tile_m / PATCH_M)
    levels = range(config.num_levels) if config.level is None else (config.level,)
    kinds = column_kinds(config)
    rows, grips = [], []
    for column, kind in enumerate(kinds):
        tiles, patches = [], []
        for level in levels:
            # A tile looks the same in every world that has it.
            random = np.random.default_rng((config.seed, column, level))
            difficulty = level / config.num_levels
            tiles.append(
                tile_heights(
                    kind,
                    difficulty,
                    num_cells=num_cells,
                    cell_m=config.cell_m,
                    is_raised=column % 2 == 0,
                    random=random,
                )
            )
            patches.append(tile_grip(kind, difficulty, num_patches=num_patches, random=random))
        rows.append(np.concatenate(tiles, axis=1))
        grips.append(np.concatenate(patches, axis=1))
    border = round(BORDER_M / config.cell_m)
    core = np.concatenate(rows)
    # The last vertex is the first of the next period.
    field = HeightField.of(np.pad(core, (border, border + 1), mode="wrap"), config.cell_m)
    inside = field.heights[border : -border - 1, border : -border - 1]
    grip = np.concatenate(grips)
    # Arrays of their own, whoever traces what is around this.
    with jax.ensure_compile_time_eval():
        terrain = Terrain(
            heights=jnp.asarray(inside, jnp.float32),
            grip=jnp.asarray(grip) if "slippery" in kinds else None,
            cell_m=config.cell_m,
            tile_m=config.tile_m,
            first_level=levels[0],
        )
    return terrain, field


def column_kinds(config: TerrainConfig) -> tuple[str, ...]:
    """The kind of each column of tiles; a mixed world follows the shares."""
    if config.kind != "mixed":
        return (config.kind,) * config.num_columns
    bounds = np.cumsum(config.shares) / np.sum(config.shares)
    # The middle of a column decides, so that rounding does not.
    middles = (np.arange(config.num_columns) + 0.5) / config.num_columns
    names = tuple(TILE_KINDS)
    return tuple(names[index] for index in np.searchsorted(bounds, middles, side="right"))


def surface_at(terrain: Terrain, x: Array, y: Array) -> Surface:
    """The ground under points, and its slope there.

    A cell is two triangles that meet on the diagonal from its lowest x and y to its highest, as
    in MuJoCo's height fields.

    Args:
      terrain: the world.
      x: [...] m; anywhere, the world goes on.
      y: [...] m.
    """
    rows, columns = terrain.heights.shape
    low_x, low_y = (-period / 2 for period in terrain.period_m)
    u, v = (x - low_x) / terrain.cell_m, (y - low_y) / terrain.cell_m
    column, row = jnp.floor(u), jnp.floor(v)
    f, g = u - column, v - row
    column, row = column.astype(jnp.int32) % columns, row.astype(jnp.int32) % rows
    next_column, next_row = (column + 1) % columns, (row + 1) % rows
    is_below = f >= g  # below the diagonal
    corner_row = jnp.where(is_below, row, next_row)
    corner_column = jnp.where(is_below, next_column, column)
    first = terrain.heights[row, column]
    corner = terrain.heights[corner_row, corner_column]
    last = terrain.heights[next_row, next_column]
    along_x = jnp.where(is_below, corner - first, last - corner)
    along_y = jnp.where(is_below, last - corner, corner - first)
    return Surface(
        height=first + f * along_x + g * along_y,
        slope_x=along_x / terrain.cell_m,
        slope_y=along_y / terrain.cell_m,
    )


def height_at(terrain: Terrain, x: Array, y: Array) -> Array:
    """Heights [...] in m of the ground at [...] points, those of the geometry that MuJoCo has."""
    return surface_at(terrain, x, y).height


def grip_at(terrain: Terrain, x: Array, y: Array) -> Array:
    """Shares [...] of the friction that the ground leaves at [...] points."""
    if terrain.grip is None:
        return jnp.ones_like(x)
    rows, columns = terrain.grip.shape
    low_x, low_y = (-period / 2 for period in terrain.period_m)
    column = jnp.floor((x - low_x) / PATCH_M).astype(jnp.int32) % columns
    row = jnp.floor((y - low_y) / PATCH_M).astype(jnp.int32) % rows
    return terrain.grip[row, column]


def tile_centre(terrain: Terrain, level: Array, column: Array) -> Array:
    """[2] the middle (m) of the tile at `level` [] and `column` [], both int32."""
    low_x, low_y = (-period / 2 for period in terrain.period_m)
    along_x = (level - terrain.first_level).astype(jnp.float32) + 0.5
    along_y = column.astype(jnp.float32) + 0.5
    return jnp.stack([low_x + terrain.tile_m * along_x, low_y + terrain.tile_m * along_y])


def wrap_shift(terrain: Terrain, position: Array) -> Array:
    """[2] what brings the position [2] (m) back into the first period; 0 where it is there."""
    period = jnp.asarray(terrain.period_m, jnp.float32)
    return -period * jnp.floor(position / period + 0.5)


__all__ = [
    "BORDER_M",
    "Surface",
    "Terrain",
    "build_terrain",
    "column_kinds",
    "grip_at",
    "height_at",
    "surface_at",
    "tile_centre",
    "wrap_shift",
]
