"""The running moments against NumPy on all data at once, however the data are split."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hinf_rl.ops.normalize import (
    NormalizerState,
    normalizer_apply,
    normalizer_init,
    normalizer_update,
)


def merged(data, mask, cuts):
    """Feeds `data` in the pieces between `cuts`."""
    state = normalizer_init(data.shape[-1])
    for piece, chosen in zip(np.split(data, cuts), np.split(mask, cuts), strict=True):
        state = normalizer_update(state, jnp.asarray(piece), jnp.asarray(chosen))
    return state


@given(
    seed=st.integers(0, 10_000),
    cuts=st.lists(st.sampled_from([3, 8, 8, 15, 20, 31]), max_size=4).map(sorted),
    offset=st.sampled_from([0.0, 5.0, 100.0]),
)
def test_any_split_gives_the_moments_of_all_data(seed, cuts, offset):
    draw = np.random.default_rng(seed)
    data = (offset + draw.normal(size=(40, 3)) * [0.5, 1.0, 3.0]).astype(np.float32)
    mask = draw.random(40) < 0.7
    mask[0] = True
    poisoned = np.where(mask[:, None], data, np.nan)
    state = merged(poisoned, mask, cuts)
    chosen = data[mask].astype(np.float64)
    assert float(state.count) == mask.sum()
    np.testing.assert_allclose(state.mean, chosen.mean(0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(state.m2 / state.count, chosen.var(0), rtol=2e-3, atol=1e-6)


def test_merge_by_hand():
    # {0, 2}: mean 1, m2 2. Then {5}: d = 4, n = 3: mean 1 + 4/3, m2 = 2 + 0 + 16 * 2 * 1 / 3.
    state = normalizer_init(1)
    state = normalizer_update(state, jnp.float32([[0.0], [2.0]]), jnp.ones(2, bool))
    state = normalizer_update(state, jnp.float32([[5.0]]), jnp.ones(1, bool))
    np.testing.assert_allclose(state.mean, [7.0 / 3.0], rtol=1e-6)
    np.testing.assert_allclose(state.m2, [2.0 + 32.0 / 3.0], rtol=1e-6)


def test_leading_axes_do_not_matter(key):
    batch = jax.random.normal(key, (4, 6, 2), jnp.float32)
    mask = jax.random.bernoulli(key, 0.5, (4, 6))
    folded = normalizer_update(normalizer_init(2), batch, mask)
    flat = normalizer_update(normalizer_init(2), batch.reshape(24, 2), mask.reshape(24))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), folded, flat)


def test_an_empty_mask_changes_nothing(key):
    seen = normalizer_update(
        normalizer_init(2), jax.random.normal(key, (8, 2), jnp.float32), jnp.ones(8, bool)
    )
    for state in (normalizer_init(2), seen):
        nothing = jnp.full((8, 2), jnp.nan, jnp.float32)
        after = normalizer_update(state, nothing, jnp.zeros(8, bool))
        jax.tree.map(np.testing.assert_array_equal, after, state)


def test_apply_is_the_identity_before_any_data():
    x = jnp.float32([[1e4, -3.0]])
    np.testing.assert_array_equal(normalizer_apply(normalizer_init(2), x), x)


def test_apply_standardises_what_was_seen(key):
    x = 7.0 + 3.0 * jax.random.normal(key, (500, 2), jnp.float32)
    state = normalizer_update(normalizer_init(2), x, jnp.ones(500, bool))
    scaled = normalizer_apply(state, x)
    np.testing.assert_allclose(np.mean(scaled, 0), 0.0, atol=1e-5)
    np.testing.assert_allclose(np.std(scaled, 0), 1.0, rtol=1e-5)


def test_apply_clips_and_spares_the_constant_component():
    # Component 0 was always 2: deviation 0, divided by 1e-2, hence 2.05 -> 5 and 9 -> clip 10.
    state = normalizer_update(
        normalizer_init(1), jnp.full((6, 1), 2.0, jnp.float32), jnp.ones(6, bool)
    )
    actual = normalizer_apply(state, jnp.float32([[2.0], [2.05], [9.0]]))
    np.testing.assert_allclose(actual[:, 0], [0.0, 5.0, 10.0], rtol=1e-4)


@pytest.mark.parametrize("count", [2.0**24, 2.0**27 * 1.3])
def test_moments_stay_true_where_the_float32_count_stands_still(count):
    # One sample at a time: count + 1 rounds to count, while a bare sum of squares would gain
    # 200 000 * 2.25 on 2.25 * 2^24, 1.2 %. The state's moments are those of the data.
    data = jnp.float32(np.random.default_rng(0).normal(2.0, 1.5, size=(200_000, 1)))
    full = NormalizerState(jnp.float32(count), jnp.float32([2.0]), jnp.float32([2.25 * count]))

    def feed(state, x):
        return normalizer_update(state, x[None], jnp.ones(1, bool)), None

    state, _ = jax.lax.scan(feed, full, data)
    assert float(state.count) == np.float32(count)
    np.testing.assert_allclose(state.mean, [2.0], rtol=1e-3)
    np.testing.assert_allclose(state.m2 / state.count, [2.25], rtol=1e-3)


def test_a_large_batch_still_counts_beyond_two_to_the_24():
    # 3e8 samples of mean 0 and variance 1, then 1e8 of value 4 in 1000 batches of 1e5:
    # mean 4 / 4 = 1, variance 3/4 * 1 + 3/4 * 1/4 * 16 = 3.75.
    state = NormalizerState(jnp.float32(3e8), jnp.zeros(1, jnp.float32), jnp.float32([3e8]))
    batch, everyone = jnp.full((100_000, 1), 4.0, jnp.float32), jnp.ones(100_000, bool)
    state, _ = jax.lax.scan(
        lambda s, _: (normalizer_update(s, batch, everyone), None), state, length=1000
    )
    np.testing.assert_allclose(state.count, 4e8, rtol=1e-4)
    np.testing.assert_allclose(state.mean, [1.0], rtol=1e-3)
    np.testing.assert_allclose(state.m2 / state.count, [3.75], rtol=1e-3)


def test_update_keeps_dtype_and_weak_type():
    state = normalizer_init(2)
    after = normalizer_update(state, jnp.ones((3, 2), jnp.float32), jnp.ones(3, bool))
    for before_leaf, after_leaf in zip(state, after, strict=True):
        assert before_leaf.aval == after_leaf.aval
