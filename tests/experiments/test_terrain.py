"""The terrain experiment: walks of robots that stand, and reports of numbers chosen by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.terrain import report, run
from experiments.terrain.walk import Walker, Walks, make_walk, walk_config
from hinf_rl.envs.legged.config import TerrainConfig
from hinf_rl.errors import UserError
from hinf_rl.tasks import get_task

TERRAIN = TerrainConfig(kind="smooth_slope", level=0, num_columns=2, cell_m=0.1)


def walking(duration_s, speed_m_s=0.8):
    return make_walk(
        walk_config(get_task("a1-terrain").env_config, TERRAIN, duration_s=duration_s), speed_m_s
    )


def stand(observation):
    return jnp.zeros((observation["policy"].shape[0], 12), jnp.float32)


def throw(observation):
    """Folds the legs of one side of every second robot away."""
    count = observation["policy"].shape[0]
    legs = jnp.zeros((count, 4, 3), jnp.float32).at[::2, ::2, 1].set(9.0)
    return legs.reshape(count, 12)


def test_a_walk_begins_with_its_command_and_keeps_it():
    env = walking(1.0)
    assert env.spec.episode_length == 50 and env.spec.policy_size == 6 * 45
    state = jax.jit(env.reset)(jax.random.key(0))
    np.testing.assert_allclose(state.observation["policy"].reshape(6, 45)[:, :3], [[1.6, 0, 0]] * 6)
    np.testing.assert_allclose(state.observation["privileged"][:3], [1.6, 0.0, 0.0])
    step = jax.jit(env.step)
    for _ in range(3):
        state = step(state, jnp.zeros(12, jnp.float32))
        np.testing.assert_allclose(state.physics.command[:2], [0.8, 0.0], rtol=1e-6)
        assert abs(float(state.physics.command[2])) < 0.05


def test_robots_that_stand_survive_and_get_nowhere_and_those_that_fall_stop():
    walker = Walker(walking(1.0))
    stood = walker(jax.tree_util.Partial(stand), jax.random.key(0), 4)
    assert stood.survived.all() and (stood.distance_m < 0.1).all()
    np.testing.assert_allclose(stood.time_s, 1.0, rtol=1e-5)
    np.testing.assert_allclose(stood.velocity_error, 0.8, atol=0.1)
    thrown = walker(jax.tree_util.Partial(throw), jax.random.key(0), 4)
    np.testing.assert_array_equal(thrown.survived, [False, True, False, True])
    assert (thrown.time_s[::2] < 1.0).all()
    np.testing.assert_allclose(thrown.time_s[1::2], 1.0, rtol=1e-5)


def fake_results():
    """Two seeds of two walks of 10 s at 0.5 m/s."""

    def cell(survived, distance):
        walks = [
            Walks(
                survived=np.array(row),
                time_s=np.full(2, 10.0, np.float32),
                distance_m=np.float32(far),
                velocity_error=np.full(2, 0.25, np.float32),
            )
            for row, far in zip(survived, distance, strict=True)
        ]
        return run.cell(walks, speed_m_s=0.5)

    origin = {"command": "run", "git": {"commit": "0123456789abcdef"}}
    return {
        "config": {
            "task": "a1-terrain",
            "algorithm": "hinf",
            "seeds": 2,
            "steps_per_seed": 2_000_000,
            "episodes": 2,
            "duration_s": 10.0,
            "speed_m_s": 0.5,
        },
        "training": origin | {"device": {"platform": "gpu", "count": 1, "kind": "a card"}},
        "evaluation": origin | {"date_utc": "2026-01-01T00", "device": {"cpu_count": 2}},
        "cells": {
            "stairs_up 3": cell([[True, False], [True, True]], [[5.0, 2.5], [5.0, 5.0]]),
            "stairs_up 0": cell([[True, True], [True, True]], [[5.0, 5.0], [5.0, 5.0]]),
            "slippery 0": cell([[False, False], [True, True]], [[0.0, 0.0], [5.0, 5.0]]),
        },
    }


def test_the_report_by_hand(tmp_path):
    data = fake_results()
    rows = {(row["kind"], row["level"]): row for row in report.rows(data)}
    assert list(rows) == [("stairs_up", 0), ("stairs_up", 3), ("slippery", 0)]
    # 3 of 4 survive, 1 of 2 in the worst seed; (5 + 2.5 + 5 + 5) / 4 of the 5 m asked for.
    found = rows["stairs_up", 3]
    np.testing.assert_allclose(found["survival"].mean, 0.75)
    assert found["worst_seed"] == 0.5
    np.testing.assert_allclose(found["progress"].mean, 0.875)
    np.testing.assert_allclose(found["velocity_error"].mean, 0.25)
    levels = report.passed_levels(data)[2:]
    assert levels == ["| stairs up | 0 | 0, 3 |", "| slippery | none | 0 |"]
    report.draw_survival(data, tmp_path / "walks.png")
    text = report.markdown(data, "walks")
    assert "| stairs up | 3 | 0.75 [" in text and "2.00 M steps" in text
    assert (tmp_path / "walks.png").stat().st_size > 5000


def test_one_seed_has_the_interval_of_its_walks():
    # Wilson, 4 of 4: 1 / (1 + 1.96^2 / 4) = 0.51 at least.
    low = report.interval([[True] * 4]).low
    np.testing.assert_allclose(low, 0.51, atol=0.002)


def test_the_world_can_be_drawn(tmp_path):
    report.draw_world(tmp_path / "world.png")
    assert (tmp_path / "world.png").stat().st_size > 20_000


def test_an_unknown_level_is_refused():
    with pytest.raises(UserError, match=r"level must lie in \[0, 10\), got 12"):
        TerrainConfig(kind="slippery", level=12)
