"""Transformer: padding, causality and the cache change nothing; settings and their errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl.errors import UserError
from hinf_rl.networks.transformer import Transformer, init_cache, rope_frequencies
from hinf_rl.networks.transformer_config import RopeScaling, TransformerConfig

SIZES = {"vocab_size": 11, "hidden_size": 16, "num_heads": 4, "ff_size": 24, "max_length": 12}
CONFIGS = {
    "rope": TransformerConfig(
        **SIZES, num_kv_heads=2, head_dim=6, qkv_bias=True, tie_embeddings=False
    ),
    "learned": TransformerConfig(**SIZES, positions="learned"),
}
TEXT = [3, 1, 4, 1, 5]


@functools.partial(jax.jit, static_argnums=0)
def run(config, variables, tokens, valid):
    return Transformer(config).apply(variables, tokens, valid)


@functools.partial(jax.jit, static_argnums=0)
def extend(config, variables, tokens, valid, cache):
    return Transformer(config).apply(variables, tokens, valid, cache, method="extend")


@functools.cache
def variables_of(name):
    """Random ones, large enough that positions and biases matter."""
    tokens = jnp.zeros((1, 1), jnp.int32)
    variables = jax.jit(Transformer(CONFIGS[name]).init)(jax.random.key(1), tokens)
    leaves, treedef = jax.tree.flatten(variables)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    moved = [
        leaf + 0.3 * jax.random.normal(key, leaf.shape)
        for leaf, key in zip(leaves, keys, strict=True)
    ]
    return jax.tree.unflatten(treedef, moved)


def padded(places, pad=0):
    """Rows of 8 slots with the tokens of TEXT at the given slots."""
    tokens = np.full((len(places), 8), pad, np.int32)
    valid = np.zeros(tokens.shape, bool)
    for row, slots in enumerate(places):
        tokens[row, list(slots)] = TEXT
        valid[row, list(slots)] = True
    return jnp.asarray(tokens), jnp.asarray(valid)


PLACES = [range(5), range(3, 8), range(1, 6), (0, 2, 3, 6, 7)]


@pytest.mark.parametrize("name", CONFIGS)
def test_padding_left_right_and_within_changes_nothing(name):
    tokens, valid = padded(PLACES)
    output = run(CONFIGS[name], variables_of(name), tokens, valid)
    other, _ = padded(PLACES, pad=7)
    output_other = run(CONFIGS[name], variables_of(name), other, valid)
    for found in (output, output_other):
        assert np.isfinite(found.logits).all()
        for row, slots in enumerate(PLACES):
            for part in ("logits", "hidden"):
                np.testing.assert_allclose(
                    getattr(found, part)[row, list(slots)],
                    getattr(output, part)[0, :5],
                    rtol=2e-5,
                    atol=2e-5,
                )


@pytest.mark.parametrize("name", CONFIGS)
def test_a_token_moves_its_own_slot_and_later_ones_only(name):
    tokens, valid = padded([range(5), range(5)])
    changed = tokens.at[1, 2].set(9)
    logits = np.asarray(run(CONFIGS[name], variables_of(name), changed, valid).logits)
    np.testing.assert_array_equal(logits[0, :2], logits[1, :2])
    moved = np.abs(logits[0, 2:5] - logits[1, 2:5]).max(axis=-1)
    assert (moved > 1e-3).all()


@pytest.mark.parametrize("name", CONFIGS)
def test_order_matters(name):
    # Without positions a transformer sees a bag of earlier tokens.
    tokens, valid = padded([range(5), range(5)])
    swapped = tokens.at[1, :2].set(tokens[1, 1::-1])
    logits = np.asarray(run(CONFIGS[name], variables_of(name), swapped, valid).logits)
    assert np.abs(logits[0, 4] - logits[1, 4]).max() > 1e-3


@pytest.mark.parametrize("name", CONFIGS)
def test_cached_steps_equal_the_whole_sequence(name):
    config, variables = CONFIGS[name], variables_of(name)
    tokens, valid = padded(PLACES)
    whole = run(config, variables, tokens, valid)
    # Room to spare: slots that were never written must not be seen.
    output, cache = extend(
        config, variables, tokens[:, :4], valid[:, :4], init_cache(config, len(PLACES), 11)
    )
    logits = [output.logits]
    for slot in range(4, 8):
        one = slice(slot, slot + 1)
        output, cache = extend(config, variables, tokens[:, one], valid[:, one], cache)
        logits.append(output.logits)
    assert int(cache.index) == 8
    np.testing.assert_array_equal(cache.valid[:, :8], valid)
    assert not cache.valid[:, 8:].any()
    found = np.concatenate(logits, axis=1)
    mask = np.asarray(valid)
    np.testing.assert_allclose(found[mask], whole.logits[mask], rtol=2e-5, atol=2e-5)


def test_grouped_heads_equal_full_heads_with_repeated_keys_and_values():
    config = CONFIGS["rope"]
    variables = variables_of("rope")
    params = jax.tree.map(lambda x: x, variables["params"])
    for index in range(config.num_layers):
        attention = params[f"layers_{index}"]["attention"]
        for name in ("key", "value"):
            attention[name] = {
                part: np.repeat(
                    np.reshape(x, (*x.shape[:-1], 2, 6)), 2, axis=-2
                ).reshape(*x.shape[:-1], 24)
                for part, x in attention[name].items()
            }  # fmt: skip
    full = TransformerConfig(**SIZES, head_dim=6, qkv_bias=True, tie_embeddings=False)
    tokens, valid = padded([range(5)])
    expected = run(config, variables, tokens, valid).logits[:, :5]
    found = run(full, {"params": params}, tokens, valid).logits[:, :5]
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


def test_bfloat16_is_near_float32_and_logits_stay_float32():
    config = TransformerConfig(
        **SIZES, num_kv_heads=2, head_dim=6, qkv_bias=True, tie_embeddings=False, dtype="bfloat16"
    )
    tokens, valid = padded([range(5)])
    exact = run(CONFIGS["rope"], variables_of("rope"), tokens, valid)
    rough = run(config, variables_of("rope"), tokens, valid)
    assert rough.logits.dtype == rough.hidden.dtype == jnp.float32
    assert init_cache(config, 1, 4).keys[0].dtype == jnp.bfloat16
    error = np.abs(rough.logits - exact.logits)[:, :5]
    scale = float(np.std(exact.logits[:, :5]))
    # 8 bits of mantissa: 0.4 % per rounding, some dozen roundings in a row.
    assert 1e-4 * scale < error.max() < 0.1 * scale


def test_gradient_is_finite_and_does_not_see_padding():
    config, variables = CONFIGS["learned"], variables_of("learned")

    @jax.jit
    def gradient(tokens, valid):
        def loss(variables):
            logits = Transformer(config).apply(variables, tokens, valid).logits
            return jnp.sum(jnp.where(valid[..., None], logits, 0.0) ** 2)

        return jax.grad(loss)(variables)

    tokens, valid = padded(PLACES)
    other, _ = padded(PLACES, pad=9)
    for one, two in zip(
        jax.tree.leaves(gradient(tokens, valid)),
        jax.tree.leaves(gradient(other, valid)),
        strict=True,
    ):
        assert np.isfinite(one).all()
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4)


def test_rotary_frequencies_by_hand():
    # theta = 100, H = 4: 100^0 = 1 and 100^(-2/4) = 0.1.
    config = TransformerConfig(vocab_size=2, head_dim=4, rope_theta=100.0)
    np.testing.assert_allclose(rope_frequencies(config), [1.0, 0.1], rtol=1e-6)


def test_stretched_frequencies_by_hand():
    # 8 pairs, theta = 10^8: frequencies 10^0 .. 10^-7. In 2000 pi tokens they turn 1000, 100, ..
    # times; above 50 kept, below 5 divided by 4, in between (10 turns) kept + (1 - kept) / 4 with
    # kept = (10 - 5) / 45 = 1/9: 1/9 + 8/36 = 1/3.
    scaling = RopeScaling(
        factor=4.0, low_frequency_factor=5.0, high_frequency_factor=50.0, original_length=6283
    )
    config = TransformerConfig(vocab_size=2, head_dim=16, rope_theta=1e8, rope_scaling=scaling)
    expected = np.array([1, 1, 1 / 3, 0.25, 0.25, 0.25, 0.25, 0.25]) * 10.0 ** -np.arange(8)
    np.testing.assert_allclose(rope_frequencies(config), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 0}, "vocab_size must be at least 1, got 0"),
        ({"num_heads": 5}, "hidden_size = 64 is not a multiple of num_heads = 5"),
        ({"num_kv_heads": 3}, "num_kv_heads = 3 does not divide num_heads = 4"),
        ({"num_kv_heads": 0}, "num_kv_heads = 0 does not divide"),
        ({"head_dim": 7}, "head_dim = 7 must be even"),
        ({"head_dim": -2}, "head_dim must be at least 1, got -2"),
        ({"rope_theta": 0.0}, "rope_theta must be positive and finite, got 0.0"),
        ({"norm_eps": float("nan")}, "norm_eps must be positive and finite"),
        ({"positions": "alibi"}, "positions must be one of learned, rope, got 'alibi'"),
        ({"dtype": "float16"}, "dtype must be one of bfloat16, float32, got 'float16'"),
    ],
)
def test_impossible_settings_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        TransformerConfig(**{"vocab_size": 8, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"factor": 0.5}, "factor must be finite and at least 1, got 0.5"),
        ({"low_frequency_factor": 4.0}, "got 4.0 and 4.0"),
        ({"original_length": 0}, "original_length must be positive, got 0"),
    ],
)
def test_impossible_stretchings_are_named(changes, message):
    fine = {
        "factor": 8.0,
        "low_frequency_factor": 1.0,
        "high_frequency_factor": 4.0,
        "original_length": 8192,
    }
    with pytest.raises(UserError, match=message):
        RopeScaling(**{**fine, **changes})


def test_too_many_slots_are_an_error():
    config = CONFIGS["rope"]
    with pytest.raises(UserError, match="13 slots exceeds max_length = 12"):
        init_cache(config, 1, 13)
    with pytest.raises(UserError, match="13 slots exceeds max_length = 12"):
        jax.eval_shape(
            Transformer(config).apply, variables_of("rope"), jnp.zeros((1, 13), jnp.int32)
        )
