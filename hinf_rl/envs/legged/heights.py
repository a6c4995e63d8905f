"""Shapes of terrain tiles as grids of heights, and how hard each level of each kind is.

A tile is a square pyramid or pit, or a field of blocks or patches, with a platform in its
middle. Every tile has height 0 along its whole edge, so any tiles fit together.

Source of the formulas: the public legged-robot terrain tables (difficulty d = level / levels;
slope 0.4 d, roughness 0.01 + 0.07 d, steps 0.05 + 0.18 d high and 0.30 m wide, blocks
0.05 + 0.1 d); slippery patches, the lattice of the roughness and the number of blocks are ours.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

TILE_KINDS = {
    "smooth_slope": "pyramid or pit with smooth sides",
    "rough_slope": "pyramid or pit with rough sides",
    "stairs_up": "pit: every way out climbs stairs",
    "stairs_down": "pyramid: every way out descends stairs",
    "discrete": "level ground with rectangular blocks and holes",
    "slippery": "level ground with patches of low friction",
}
"""Kind of tile to what it looks like."""
PLATFORM_M = 3.0
"""Side of the middle of a pyramid or pit."""
STEP_WIDTH_M = 0.30
"""Depth of a stair's tread."""
PATCH_M = 0.5
"""Side of a slippery patch."""
_ROUGHNESS_LATTICE_M = 0.2
_NUM_BLOCKS = 20
_BLOCK_SIDES_M = (1.0, 2.0)
_BASE_M = 1.0


@dataclasses.dataclass(frozen=True)
class HeightField:
    """What a MuJoCo model needs of a height field.

    Attributes:
      elevation: [Y, X] float32 in [0, 1], row by row from the lowest y, columns from the lowest x.
      half_size_m: half of its extent along x and y, centred on the world's origin.
      lowest_m: height of elevation 0.
      range_m: height of elevation 1 above that of 0, > 0.
      base_m: thickness of the ground below the lowest point.
    """

    elevation: NDArray[np.float32]
    half_size_m: tuple[float, float]
    lowest_m: float
    range_m: float
    base_m: float = _BASE_M

    @classmethod
    def of(cls, heights: NDArray[np.float64], cell_m: float) -> "HeightField":
        """Wraps heights in m on a square grid [Y, X] of vertices `cell_m` apart."""
        lowest = float(heights.min())
        # Level ground has no range, which MuJoCo refuses.
        span = max(float(np.ptp(heights)), 0.01)
        rows, columns = heights.shape
        return cls(
            elevation=((heights - lowest) / span).astype(np.float32),
            half_size_m=((columns - 1) * cell_m / 2, (rows - 1) * cell_m / 2),
            lowest_m=lowest,
            range_m=span,
        )

    @property
    def heights(self) -> NDArray[np.float64]:
        """[Y, X] heights in m, as MuJoCo computes them from the elevation."""
        return self.elevation.astype(np.float64) * self.range_m + self.lowest_m


def slope(difficulty: float) -> float:
    """Rise over run of a slope."""
    return 0.4 * difficulty


def roughness_m(difficulty: float) -> float:
    """Largest height of the noise on a rough slope, up and down."""
    return 0.01 + 0.07 * difficulty


def step_height_m(difficulty: float) -> float:
    """Height of a stair's step."""
    return 0.05 + 0.18 * difficulty


def block_height_m(difficulty: float) -> float:
    """Largest height of a block, and depth of a hole."""
    return 0.05 + 0.1 * difficulty


def patch_grip(difficulty: float) -> float:
    """Share of the friction that a slippery patch leaves."""
    return 1.0 - 0.9 * difficulty


def tile_heights(
    kind: str,
    difficulty: float,
    *,
    num_cells: int,
    cell_m: float,
    is_raised: bool,
    random: np.random.Generator,
) -> NDArray[np.float64]:
    """Returns the heights [num_cells, num_cells] in m of a tile's vertices, rows along y.

    The vertices of the upper edges, at height 0, belong to the next tiles.

    Args:
      kind: one of `TILE_KINDS`.
      difficulty: in [0, 1).
      num_cells: cells along a side.
      cell_m: side of a cell.
      is_raised: whether a slope is a pyramid, else a pit; other kinds do not look at it.
      random: of roughness and blocks.
    """
    index = np.arange(num_cells)
    edge = np.minimum(index, num_cells - index)
    edge = np.minimum.outer(edge, edge)  # cells to the nearest edge
    side = round((num_cells * cell_m - PLATFORM_M) / 2 / cell_m)  # cells from edge to platform
    sign = 1.0 if is_raised else -1.0
    if kind == "smooth_slope":
        return sign * slope(difficulty) * cell_m * np.minimum(edge, side)
    if kind == "rough_slope":
        noise = _noise(random, num_cells, cell_m) * roughness_m(difficulty)
        pyramid = sign * slope(difficulty) * cell_m * np.minimum(edge, side)
        return pyramid + np.where(edge > 0, noise, 0.0)
    if kind in ("stairs_up", "stairs_down"):
        width = round(STEP_WIDTH_M / cell_m)
        steps = np.minimum(edge // width, side // width)
        return (-1.0 if kind == "stairs_up" else 1.0) * step_height_m(difficulty) * steps
    if kind == "discrete":
        blocks = _blocks(random, num_cells, cell_m) * block_height_m(difficulty)
        return np.where(edge < side, blocks, 0.0)
    return np.zeros((num_cells, num_cells))


def tile_grip(
    kind: str, difficulty: float, *, num_patches: int, random: np.random.Generator
) -> NDArray[np.float32]:
    """Returns the share of friction on each patch of a tile, [num_patches, num_patches].

    Half of the patches of a slippery tile are slippery; other kinds grip everywhere.
    """
    grip = np.ones(num_patches**2, np.float32)
    if kind == "slippery":
        chosen = random.permutation(grip.size)[: grip.size // 2]
        grip[chosen] = patch_grip(difficulty)
    return grip.reshape(num_patches, num_patches)


def _noise(random: np.random.Generator, num_cells: int, cell_m: float) -> NDArray[np.float64]:
    """Uniform in [-1, 1] on a lattice, linear in between, [num_cells, num_cells]."""
    count = int(np.ceil(num_cells * cell_m / _ROUGHNESS_LATTICE_M)) + 1
    lattice = random.uniform(-1.0, 1.0, (count, count))
    place = np.arange(num_cells) * (cell_m / _ROUGHNESS_LATTICE_M)
    knots = np.arange(count)
    rows = np.stack([np.interp(place, knots, row) for row in lattice])
    return np.stack([np.interp(place, knots, column) for column in rows.T], axis=1)


def _blocks(random: np.random.Generator, num_cells: int, cell_m: float) -> NDArray[np.float64]:
    """Rectangles of height -1, -1/2, 1/2 or 1; where two meet, the later one counts."""
    field = np.zeros((num_cells, num_cells))
    shortest, longest = (round(side / cell_m) for side in _BLOCK_SIDES_M)
    for _ in range(_NUM_BLOCKS):
        height, width = random.integers(shortest, longest + 1, 2)
        row = random.integers(1, num_cells - height)
        column = random.integers(1, num_cells - width)
        field[row : row + height, column : column + width] = random.choice([-1.0, -0.5, 0.5, 1.0])
    return field


__all__ = [
    "PATCH_M",
    "PLATFORM_M",
    "STEP_WIDTH_M",
    "TILE_KINDS",
    "HeightField",
    "block_height_m",
    "patch_grip",
    "roughness_m",
    "slope",
    "step_height_m",
    "tile_grip",
    "tile_heights",
]
