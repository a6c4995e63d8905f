import numpy as np
import pytest

from hinf_rl.envs.legged import heights
from hinf_rl.envs.legged.heights import TILE_KINDS, HeightField, tile_grip, tile_heights

CELL_M = 0.05
NUM_CELLS = 160
CENTRE = NUM_CELLS // 2


def tile(kind, difficulty, *, is_raised=True, cell_m=CELL_M, seed=0):
    return tile_heights(
        kind,
        difficulty,
        num_cells=round(8.0 / cell_m),
        cell_m=cell_m,
        is_raised=is_raised,
        random=np.random.default_rng(seed),
    )


@pytest.mark.parametrize(
    "level, slope, roughness, step, block",
    [(0, 0.0, 0.01, 0.05, 0.05), (5, 0.2, 0.045, 0.14, 0.1), (9, 0.36, 0.073, 0.212, 0.14)],
)
def test_difficulties_are_the_tabled_ones(level, slope, roughness, step, block):
    d = level / 10
    found = (
        heights.slope(d),
        heights.roughness_m(d),
        heights.step_height_m(d),
        heights.block_height_m(d),
    )
    np.testing.assert_allclose(found, (slope, roughness, step, block), rtol=1e-12)


@pytest.mark.parametrize("kind", TILE_KINDS)
@pytest.mark.parametrize("cell_m", [0.05, 0.1])
def test_every_tile_has_height_0_along_its_edge(kind, cell_m):
    field = tile(kind, 0.9, cell_m=cell_m)
    np.testing.assert_array_equal(field[0], 0.0)
    np.testing.assert_array_equal(field[:, 0], 0.0)
    # The upper edge is the next tile's; one cell before it a surface of the tabled slopes and
    # roughness cannot be far, and a stair has not begun.
    if kind in ("stairs_up", "stairs_down", "slippery", "discrete"):
        np.testing.assert_array_equal(field[-1], 0.0)


@pytest.mark.parametrize("is_raised, sign", [(True, 1.0), (False, -1.0)])
def test_smooth_slope_rises_as_tabled_to_a_platform_of_3_m(is_raised, sign):
    field = sign * tile("smooth_slope", 0.5, is_raised=is_raised)
    profile = field[CENTRE]
    # 0.4 x 0.5 = 0.2 over the 2.5 m from the edge to the platform: 0.5 m.
    np.testing.assert_allclose(np.diff(profile[:51]), 0.2 * CELL_M, atol=1e-12)
    np.testing.assert_allclose(profile[50:111], 0.5)  # 60 cells of 0.05 m
    np.testing.assert_allclose(np.diff(profile[110:]), -0.2 * CELL_M, atol=1e-12)
    np.testing.assert_array_equal(field, field.T)


def test_rough_slope_is_the_smooth_one_within_the_roughness():
    smooth, rough = tile("smooth_slope", 0.5), tile("rough_slope", 0.5)
    noise = (rough - smooth)[1:, 1:]
    # 0.01 + 0.07 x 0.5 = 0.045; of 1600 lattice points some come close to it.
    assert 0.9 * 0.045 < np.abs(noise).max() <= 0.045
    assert abs(noise.mean()) < 0.003
    # Between lattice points 0.2 m apart the noise is linear.
    np.testing.assert_allclose(noise[3, 3:8], np.linspace(noise[3, 3], noise[3, 7], 5), atol=1e-12)


@pytest.mark.parametrize("kind, sign", [("stairs_up", -1.0), ("stairs_down", 1.0)])
@pytest.mark.parametrize("cell_m", [0.05, 0.1])
def test_stairs_have_steps_of_the_tabled_height_and_width(kind, sign, cell_m):
    profile = tile(kind, 0.9, cell_m=cell_m)[round(4.0 / cell_m)]
    # 2.5 m hold 8 steps of 0.3 m, 0.05 + 0.18 x 0.9 = 0.212 m each: 1.696 m.
    levels, counts = np.unique(np.round(sign * profile / 0.212, 9), return_counts=True)
    np.testing.assert_array_equal(levels, np.arange(9))
    width = round(0.3 / cell_m)
    # Each tread twice, but for the ground (whose other end is the next tile's) and the platform.
    assert counts.tolist()[1:-1] == [2 * width] * 7
    assert counts[-1] == round(3.2 / cell_m) + 1
    half = profile[: round(4.0 / cell_m)]
    rises = np.flatnonzero(np.diff(half))
    np.testing.assert_array_equal(np.diff(rises), width)


def test_discrete_blocks_have_the_tabled_heights_and_leave_the_platform_free():
    field = tile("discrete", 0.5)
    # 0.05 + 0.1 x 0.5 = 0.1, half of it, up and down.
    values = np.unique(np.round(field, 9))
    np.testing.assert_allclose(values, [-0.1, -0.05, 0.0, 0.05, 0.1])
    np.testing.assert_array_equal(field[50:111, 50:111], 0.0)
    assert not np.array_equal(field, tile("discrete", 0.5, seed=1))


def test_half_of_the_patches_of_slippery_ground_are_slippery():
    random = np.random.default_rng(0)
    grip = tile_grip("slippery", 0.9, num_patches=16, random=random)
    # 1 - 0.9 x 0.9 = 0.19 of the friction is left.
    values, counts = np.unique(grip, return_counts=True)
    np.testing.assert_allclose(values, [0.19, 1.0])
    np.testing.assert_array_equal(counts, [128, 128])
    np.testing.assert_array_equal(tile("slippery", 0.9), 0.0)
    others = [kind for kind in TILE_KINDS if kind != "slippery"]
    for kind in others:
        assert (tile_grip(kind, 0.9, num_patches=16, random=random) == 1.0).all()


def test_a_height_field_keeps_heights_to_float32():
    drawn = np.random.default_rng(0).uniform(-1.7, 0.9, (7, 5))
    field = HeightField.of(drawn, 0.1)
    assert field.elevation.dtype == np.float32
    assert field.elevation.min() == 0.0 and field.elevation.max() == 1.0
    np.testing.assert_allclose(field.half_size_m, (0.2, 0.3))
    np.testing.assert_allclose(field.heights, drawn, atol=2e-7)
    level = HeightField.of(np.full((3, 3), 2.0), 0.1)
    assert level.range_m > 0
    np.testing.assert_array_equal(level.heights, 2.0)
