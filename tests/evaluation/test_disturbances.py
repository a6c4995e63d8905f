import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hinf_rl.errors import UserError
from hinf_rl.evaluation import disturbances

_NOTHING = {"policy": jnp.zeros((1, 1), jnp.float32)}


def _forces(disturbance, num_envs, num_steps, seed=0):
    """[T, E, D] forces of an episode."""
    state = disturbance.init(jax.random.key(seed), num_envs)
    sample = jax.vmap(lambda t: disturbance.sample(state, _NOTHING, t))
    return np.asarray(jax.jit(sample)(jnp.arange(num_steps, dtype=jnp.int32)))


def test_quiet_is_zero():
    np.testing.assert_array_equal(_forces(disturbances.Quiet(size=2), 3, 4), np.zeros((4, 3, 2)))


def test_continuous_keeps_its_length_and_turns_every_fifth_of_a_second(hazard_env):
    # dt 0.1 s: 0.2 s are two steps.
    magnitude = jnp.array([0.0, 1.0, 30.0])
    force = _forces(disturbances.continuous(hazard_env().spec, magnitude), 3, 40)
    norms = np.linalg.norm(force, axis=-1)
    np.testing.assert_allclose(norms, np.broadcast_to(magnitude, norms.shape), rtol=1e-5)
    np.testing.assert_array_equal(force[0::2], force[1::2])
    assert (np.abs(force[2::2, 1] - force[:-2:2, 1]).max(axis=-1) > 0).all()


def test_continuous_has_no_preferred_direction(hazard_env):
    # Mean of unit vectors over n draws: each component has variance 1/3n; 5 sigma.
    force = _forces(disturbances.continuous(hazard_env().spec, 1.0), 2000, 1)[0]
    np.testing.assert_allclose(force.mean(axis=0), 0.0, atol=5 / np.sqrt(3 * 2000))
    np.testing.assert_allclose(force.T @ force / 2000, np.eye(3) / 3, atol=0.05)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_filled_ball_has_the_radii_of_a_uniform_ball(hazard_env, size):
    # P(|F| <= r) = (r / R)^D, so (|F| / R)^D is uniform: mean 1/2, sigma 1/sqrt(12 n).
    spec = hazard_env(size=size).spec
    force = _forces(disturbances.continuous(spec, 4.0, fill_ball=True), 2000, 1)[0]
    share = (np.linalg.norm(force, axis=-1) / 4.0) ** size
    assert share.max() <= 1.0 + 1e-5
    assert share.mean() == pytest.approx(0.5, abs=5 / np.sqrt(12 * 2000))


def test_sudden_pushes_at_one_second_and_every_three_after(hazard_env):
    # dt 0.1 s: pushes of two steps start at steps 10 and 40, 70, ...
    force = _forces(disturbances.sudden(hazard_env().spec, 5.0), 4, 75)
    pushed = np.linalg.norm(force, axis=-1) > 0
    expected = np.zeros(75, bool)
    expected[[10, 11, 40, 41, 70, 71]] = True
    np.testing.assert_array_equal(pushed, np.repeat(expected[:, None], 4, axis=1))
    np.testing.assert_allclose(np.linalg.norm(force[expected], axis=-1), 5.0, rtol=1e-5)
    np.testing.assert_array_equal(force[..., 2], 0.0)  # horizontal
    np.testing.assert_array_equal(force[10], force[11])
    assert np.abs(force[10] - force[40]).max() > 0.1


def test_a_force_with_one_component_takes_both_signs(hazard_env):
    force = _forces(disturbances.continuous(hazard_env(size=1).spec, 2.0), 64, 1)
    np.testing.assert_allclose(np.unique(force), [-2.0, 2.0])


@settings(deadline=None)
@given(
    vector=st.lists(st.floats(-50.0, 50.0, width=32), min_size=3, max_size=3),
    limit=st.floats(0.0, 20.0),
)
def test_radial_clip_shortens_and_keeps_the_direction(vector, limit):
    force = jnp.array(vector, jnp.float32)
    clipped = np.asarray(disturbances.radial_clip(force, limit))
    norm = np.linalg.norm(vector)
    assert np.linalg.norm(clipped) == pytest.approx(min(norm, limit), rel=1e-4, abs=1e-6)
    np.testing.assert_allclose(clipped * norm, np.array(vector) * min(norm, limit), atol=1e-2)


def test_attacker_is_scaled_and_then_clipped():
    # Trained with limit 10: (6, 8) has length 10. At magnitude 5 it is halved, at 15 it grows by
    # half; (9, 12) is too long for its own limit and comes out at the magnitude.
    policy = jax.tree_util.Partial(lambda observation: observation["policy"])
    attacker = disturbances.Attacker(
        policy=policy, magnitude=jnp.array([5.0, 15.0, 10.0]), limit=10.0
    )
    state = attacker.init(jax.random.key(0), 3)
    given_forces = {"policy": jnp.array([[6.0, 8.0], [6.0, 8.0], [9.0, 12.0]])}
    force = attacker.sample(state, given_forces, jnp.int32(0))
    np.testing.assert_allclose(force, [[3.0, 4.0], [9.0, 12.0], [6.0, 8.0]], rtol=1e-6)


def test_blocks_give_each_part_its_rows_and_equal_parts_equal_directions(hazard_env):
    spec = hazard_env().spec
    weak, strong = (disturbances.continuous(spec, size) for size in (1.0, 3.0))
    blocks = disturbances.Blocks(parts=(disturbances.Quiet(size=3), weak, strong), counts=(1, 2, 3))
    force = _forces(blocks, 6, 8)
    np.testing.assert_array_equal(force[:, :1], 0.0)
    np.testing.assert_array_equal(force[:, 1:3], _forces(weak, 2, 8))
    np.testing.assert_allclose(force[:, 3:5], 3.0 * force[:, 1:3], rtol=1e-5)


def test_blocks_hand_each_part_its_own_observations():
    policy = jax.tree_util.Partial(lambda observation: observation["policy"])
    part = disturbances.Attacker(policy=policy, magnitude=jnp.float32(9.0), limit=9.0)
    blocks = disturbances.Blocks(parts=(part, part), counts=(1, 2))
    seen = {"policy": jnp.array([[1.0], [2.0], [3.0]])}
    force = blocks.sample(blocks.init(jax.random.key(0), 3), seen, jnp.int32(0))
    np.testing.assert_array_equal(force, seen["policy"])


def test_rows_of_one_stream_are_pushed_alike(hazard_env):
    spec = hazard_env().spec
    size = jnp.array([1.0, 1.0, 4.0, 4.0])
    for make in (disturbances.continuous, disturbances.sudden):
        force = _forces(make(spec, size, num_streams=2), 4, 45)
        np.testing.assert_allclose(force[:, 2:], 4.0 * force[:, :2], rtol=1e-5)
        assert np.abs(force[:, 0] - force[:, 1]).max() > 0.1


def test_bad_input_is_named(hazard_env):
    with pytest.raises(UserError, match="takes no disturbance"):
        disturbances.sudden(hazard_env(size=0).spec, 1.0)
    blocks = disturbances.Blocks(parts=(disturbances.Quiet(size=3),), counts=(2,))
    with pytest.raises(UserError, match="do not fill a batch of 3"):
        blocks.init(jax.random.key(0), 3)
