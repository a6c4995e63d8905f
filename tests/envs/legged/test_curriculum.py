import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl.envs.legged.config import TerrainConfig
from hinf_rl.envs.legged.curriculum import advance_visit, begin_visit, first_tile, next_level

CONFIG = TerrainConfig(kind="mixed")
NEXT_LEVEL = jax.jit(lambda key, visit, asked_m: next_level(key, visit, asked_m, CONFIG))


def visit(level, furthest_m):
    begun = begin_visit(jnp.int32(level), jnp.int32(3), jnp.zeros(2, jnp.float32))
    return begun._replace(furthest_m=jnp.float32(furthest_m))


@pytest.mark.parametrize(
    "level, furthest_m, asked_m, expected",
    [
        (3, 4.1, 20.0, 4),  # further than half a tile: up, however much was asked for
        (3, 3.9, 20.0, 2),  # 3.9 < 10: down
        (3, 3.9, 7.0, 3),  # at least 3.5 of the 7 asked for: stays
        (3, 0.0, 0.0, 3),  # asked to stand, stood
        (0, 0.1, 20.0, 0),  # there is no level below
        (8, 5.0, 20.0, 9),
        (3, np.nan, 20.0, 3),  # a robot that diverged says nothing
    ],
)
def test_the_rule_by_hand(level, furthest_m, asked_m, expected):
    found = NEXT_LEVEL(jax.random.key(0), visit(level, furthest_m), jnp.float32(asked_m))
    assert found.dtype == jnp.int32 and int(found) == expected


def test_past_the_highest_level_any_comes_with_equal_chance():
    keys = jax.random.split(jax.random.key(0), 5000)
    found = jax.vmap(NEXT_LEVEL, (0, None, None))(keys, visit(9, 6.0), jnp.float32(9.0))
    counts = np.bincount(found, minlength=10)
    # 500 of each; three standard deviations are 64.
    assert len(counts) == 10 and (np.abs(counts - 500) < 85).all()


def test_a_fixed_level_stays():
    config = TerrainConfig(kind="discrete", level=4)
    key = jax.random.key(0)
    for furthest_m in (0.0, 9.0):
        assert next_level(key, visit(4, furthest_m), jnp.float32(20.0), config) == 4
    level, column = first_tile(key, config)
    assert level == 4 and 0 <= column < 20


@pytest.mark.parametrize("num_levels, highest", [(10, 5), (3, 2)])
def test_first_episodes_begin_low_and_in_every_column(num_levels, highest):
    config = TerrainConfig(kind="mixed", num_levels=num_levels, num_columns=4)
    keys = jax.random.split(jax.random.key(1), 1000)
    levels, columns = jax.jit(jax.vmap(lambda key: first_tile(key, config)))(keys)
    assert set(levels.tolist()) == set(range(highest + 1))
    assert set(columns.tolist()) == set(range(4))


def test_a_visit_keeps_the_furthest_point_and_the_distance_asked_for():
    begun = begin_visit(jnp.int32(0), jnp.int32(0), jnp.array([1.0, 2.0], jnp.float32))
    for position in ((4.0, 6.0), (1.0, 3.0)):  # 5 m away, then 1 m
        begun = advance_visit(begun, jnp.array(position, jnp.float32), jnp.float32(0.02))
    np.testing.assert_allclose([begun.furthest_m, begun.asked_m], [5.0, 0.04])
