import jax
import jax.numpy as jnp
import numpy as np

from hinf_rl.envs.legged.config import RandomisationConfig
from hinf_rl.envs.legged.control import delayed_targets, kicked
from hinf_rl.envs.physics.api import PhysicsState


def test_a_late_target_follows_the_old_one_from_a_uniform_substep_on():
    new, old = jnp.array([1.0, 2.0], jnp.float32), jnp.array([-1.0, -2.0], jnp.float32)
    keys = jax.random.split(jax.random.key(0), 400)
    found = np.asarray(jax.vmap(lambda key: delayed_targets(key, new, old, 4))(keys))
    late = (found[:, :, 0] == -1.0).sum(axis=1)
    for row, count in zip(found, late, strict=True):
        np.testing.assert_array_equal(row, [[-1, -2]] * count + [[1, 2]] * (4 - count))
    # 400 draws of 4 values: 100 each, with a spread of 8.7.
    assert (np.abs(np.bincount(late, minlength=4) - 100) < 4 * 8.7).all() and late.max() == 3


def test_kicks_come_at_their_interval_and_change_the_horizontal_velocity_only():
    settings = RandomisationConfig(push_interval_s=0.1, push_speed_m_s=0.7)
    rest = PhysicsState(*(jnp.ones(n, jnp.float32) for n in (19, 18, 18)), jnp.float32(0.0))
    times = 0.02 * jnp.arange(200, dtype=jnp.float32)
    keys = jax.random.split(jax.random.key(1), 200)
    after = jax.vmap(lambda t, k: kicked(rest, t, k, settings=settings, dt_s=0.02))(times, keys)
    change = np.asarray(after.qvel) - 1.0
    moved = (change != 0).any(axis=1)
    # Before the steps that end at 0.1, 0.2 ... s: the fifth, the tenth ...
    np.testing.assert_array_equal(moved, (np.arange(200) + 1) % 5 == 0)
    assert (change[:, 2:] == 0).all() and 0.6 < np.abs(change).max() <= 0.7
    none = RandomisationConfig(push_speed_m_s=0.0)
    assert kicked(rest, times[4], keys[4], settings=none, dt_s=0.02) is rest
