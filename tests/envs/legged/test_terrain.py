import dataclasses
import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from hinf_rl.envs.legged.config import TerrainConfig, VelocityConfig
from hinf_rl.envs.legged.heights import TILE_KINDS
from hinf_rl.envs.legged.mjcf import build_mjcf
from hinf_rl.envs.legged.robots import A1
from hinf_rl.envs.legged.terrain import (
    build_terrain,
    column_kinds,
    grip_at,
    height_at,
    surface_at,
    tile_centre,
    wrap_shift,
)
from hinf_rl.errors import UserError

# Every kind once, levels 0 to 2 of 3: 24 m by 48 m.
CONFIG = TerrainConfig(
    kind="mixed", num_levels=3, num_columns=6, shares=(1.0,) * 6, cell_m=0.1, seed=3
)


@functools.cache
def world():
    return build_terrain(CONFIG)


@functools.cache
def simulated():
    """MuJoCo's model and data of the world, the robot out of the way."""
    field = world()[1]
    model = mujoco.MjModel.from_xml_string(build_mjcf(A1, height_field=field))
    model.hfield_data[:] = field.elevation.reshape(-1)
    data = mujoco.MjData(model)
    data.qpos[2] = 100.0
    mujoco.mj_forward(model, data)
    return model, data


def ray_height(x, y):
    """What MuJoCo's ray from above hits first."""
    model, data = simulated()
    hit = np.zeros(1, np.int32)
    start, down = np.array([x, y, 20.0]), np.array([0.0, 0.0, -1.0])
    distance = mujoco.mj_ray(model, data, start, down, None, 1, -1, hit)
    assert model.geom(hit[0]).name == "floor"
    return 20.0 - distance


def points(count, seed=0):
    """Places in the world and 1.5 m around it, exact in float32."""
    random = np.random.default_rng(seed)
    x, y = random.uniform(-13.5, 13.5, count), random.uniform(-25.5, 25.5, count)
    return np.float32(x), np.float32(y)


def test_heights_are_those_of_the_geometry_that_mujoco_collides_with():
    x, y = points(3000)
    found = jax.jit(lambda x, y: height_at(world()[0], x, y))(x, y)
    expected = np.array([ray_height(*point) for point in zip(x, y, strict=True)])
    # float32 knows x to 1e-6 m, which a riser makes 2e-6 m of.
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert expected.max() > 0.8 and expected.min() < -0.8


def test_heights_at_the_seams_of_cells_and_tiles():
    random = np.random.default_rng(1)
    column, row = random.integers(-120, 120, 200), random.integers(-240, 240, 200)
    along = random.uniform(0.0, 1.0, 200)
    lines = [
        (0.1 * column, 0.1 * (row + along)),  # edges of cells
        (0.1 * (column + along), 0.1 * (row + along)),  # their diagonals
        (8.0 * np.round(column / 80) - 4.0, 0.1 * (row + along)),  # edges of tiles
    ]
    for x, y in lines:
        x, y = np.float32(x), np.float32(y)
        found = height_at(world()[0], jnp.asarray(x), jnp.asarray(y))
        expected = np.array([ray_height(*point) for point in zip(x, y, strict=True)])
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_slopes_are_the_derivatives_of_heights():
    terrain = world()[0]
    random = np.random.default_rng(2)
    # Inside of triangles, a hundredth of a cell away from their sides.
    cells = np.stack([random.integers(-120, 120, 500), random.integers(-240, 240, 500)])
    inside = random.uniform(0.05, 0.95, (2, 500))
    keep = np.abs(inside[0] - inside[1]) > 0.05
    x, y = np.float32(0.1 * (cells + inside))[:, keep]
    surface = surface_at(terrain, jnp.asarray(x), jnp.asarray(y))
    step = np.float32(1.0 / 512)
    for slope, dx, dy in ((surface.slope_x, step, 0), (surface.slope_y, 0, step)):
        ahead = height_at(terrain, jnp.asarray(x + np.float32(dx)), jnp.asarray(y + np.float32(dy)))
        behind = height_at(
            terrain, jnp.asarray(x - np.float32(dx)), jnp.asarray(y - np.float32(dy))
        )
        np.testing.assert_allclose(slope, (ahead - behind) / (2 * step), atol=4e-3)


def test_the_world_goes_on_with_its_other_side():
    terrain = world()[0]
    x, y = points(300)
    here = height_at(terrain, jnp.asarray(x), jnp.asarray(y))
    there = height_at(terrain, jnp.asarray(x + np.float32(24)), jnp.asarray(y - np.float32(48)))
    np.testing.assert_allclose(there, here, atol=3e-5)
    position = jnp.array([13.0, -25.0], jnp.float32)
    np.testing.assert_array_equal(wrap_shift(terrain, position), [-24.0, 48.0])
    np.testing.assert_array_equal(wrap_shift(terrain, jnp.array([11.9, 23.9], jnp.float32)), 0.0)


@pytest.mark.parametrize("level, column, centre", [(0, 0, (-8, -20)), (2, 5, (8, 20))])
def test_the_middles_of_tiles(level, column, centre):
    found = tile_centre(world()[0], jnp.int32(level), jnp.int32(column))
    np.testing.assert_allclose(found, centre)


def test_a_tile_is_the_same_in_every_world_that_has_it():
    alone, field = build_terrain(dataclasses.replace(CONFIG, level=2))
    assert alone.heights.shape == (480, 80) and alone.first_level == 2
    np.testing.assert_allclose(alone.heights, world()[0].heights[:, 160:], atol=1e-6)
    np.testing.assert_array_equal(alone.grip, world()[0].grip[:, 32:])
    np.testing.assert_allclose(tile_centre(alone, jnp.int32(2), jnp.int32(0)), [0.0, -20.0])
    assert field.elevation.shape == (480 + 33, 80 + 33)  # a border of 16 cells on each side


def test_pits_and_pyramids_lie_where_their_kind_says():
    terrain = world()[0]
    kinds = column_kinds(CONFIG)
    assert kinds == tuple(TILE_KINDS)
    # Level 2 of 3: slope 0.4 x 2/3 over 2.5 m, 8 steps of 0.05 + 0.18 x 2/3 = 0.17 m.
    middle = {"smooth_slope": 2.0 / 3.0, "stairs_up": -1.36, "stairs_down": 1.36, "slippery": 0.0}
    for column, kind in enumerate(kinds):
        centre = tile_centre(terrain, jnp.int32(2), jnp.int32(column))
        height = height_at(terrain, centre[0], centre[1])
        if kind in middle:
            np.testing.assert_allclose(height, middle[kind], atol=1e-6)


def test_columns_follow_the_tabled_shares():
    kinds = column_kinds(TerrainConfig(kind="mixed"))
    counts = [kinds.count(kind) for kind in TILE_KINDS]
    assert counts == [2, 4, 6, 6, 2, 0]
    assert column_kinds(TerrainConfig(kind="discrete", num_columns=3)) == ("discrete",) * 3


def test_grip_is_that_of_the_patch_underfoot():
    terrain = world()[0]
    x, y = points(4000)
    grip = np.asarray(grip_at(terrain, jnp.asarray(x), jnp.asarray(y)))
    wrapped_x, wrapped_y = (x + 12) % 24, (y + 24) % 48
    slippery = wrapped_y // 8 == 5
    assert (grip[~slippery] == 1.0).all()
    for level in range(3):
        found = grip[slippery & (wrapped_x // 8 == level)]
        expected = 1.0 - 0.9 * level / 3
        assert set(np.round(np.unique(found), 6)) == {np.float32(round(expected, 6)), 1.0}
        np.testing.assert_allclose((found == 1.0).mean(), 1.0 if level == 0 else 0.5, atol=0.12)
    smooth, _ = build_terrain(TerrainConfig(kind="smooth_slope", level=0, num_columns=1))
    assert smooth.grip is None
    np.testing.assert_array_equal(grip_at(smooth, jnp.zeros(3), jnp.zeros(3)), 1.0)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"kind": "stair_up"}, "unknown terrain 'stair_up'; did you mean 'stairs_up'"),
        ({"kind": "mixed", "num_levels": 0}, "num_levels must be at least 1, got 0"),
        ({"kind": "mixed", "num_columns": 0}, "num_columns must be at least 1, got 0"),
        ({"level": 3}, "flat ground has no level 3"),
        ({"kind": "mixed", "level": 10}, r"level must lie in \[0, 10\), got 10"),
        ({"kind": "mixed", "shares": (1.0, 0.0)}, "shares must be 6 numbers >= 0"),
        ({"kind": "mixed", "shares": (0.0,) * 6}, "not all 0"),
        ({"tile_m": 4.0}, "tile_m must be a multiple of 0.5 m of at least 4.2 m, got 4.0"),
        ({"tile_m": 8.1}, "tile_m must be a multiple of 0.5 m"),
        ({"cell_m": 0.0}, "cell_m must be positive"),
        ({"cell_m": 0.07}, "cell_m must divide the step width of 0.3 m, got 0.07"),
        ({"cell_m": 0.15}, "cell_m must divide tile_m of 8.0 m, got 0.15"),
        ({"start_spread_m": 4.0}, r"start_spread_m must lie in \[0, 4.0\), half a tile"),
        ({"noise_height_m": -0.1}, "noise_height_m must be at least 0"),
        ({"cell_m": 0.01}, "10 x 20 tiles with cells of 0.01 m have 1.28e"),
    ],
)
def test_worlds_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        TerrainConfig(**settings)


def test_a_terrain_is_a_setting_of_the_task():
    assert VelocityConfig().terrain.kind == "flat"
    assert "hfield" not in build_mjcf(A1)
