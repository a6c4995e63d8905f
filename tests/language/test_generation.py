"""Samples against exact probabilities, and what must not change them."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax
from scipy.stats import chisquare

from hinf_rl.errors import UserError
from hinf_rl.language.generation import (
    SamplingConfig,
    filter_logits,
    right_align,
    sample,
    teacher_force,
)
from hinf_rl.networks import Transformer, TransformerConfig, ValueHead

PAD, STOP, LENGTH = 0, 3, 3
MODEL = Transformer(
    TransformerConfig(
        vocab_size=4, num_layers=1, hidden_size=8, num_heads=2, num_kv_heads=1, ff_size=8,
        max_length=16,
    )
)  # fmt: skip
HEAD = ValueHead((), 1.0)
# One prompt of three tokens after one pad, as in a batch with longer ones.
PROMPT, VALID = np.array([0, 1, 2, 1], np.int32), np.array([False, True, True, True])
SETTINGS = SamplingConfig(
    max_new_tokens=LENGTH, stop_ids=(STOP,), pad_id=PAD, temperature=0.7, top_k=3, top_p=0.8
)
ROWS = 4096
force = jax.jit(functools.partial(teacher_force, MODEL))


@functools.cache
def variables():
    """A model whose next-token probabilities differ visibly from uniform ones."""
    found = jax.jit(MODEL.init)(jax.random.key(3), jnp.zeros((1, 1), jnp.int32))
    return jax.tree.map(lambda x: 12.0 * x if x.shape == (4, 8) else x, found)


@functools.cache
def head_variables():
    return HEAD.init(jax.random.key(4), jnp.zeros((1, 8)))


def repeated(count):
    return jnp.tile(jnp.asarray(PROMPT), (count, 1)), jnp.tile(jnp.asarray(VALID), (count, 1))


@functools.cache
def many():
    """4096 responses to one prompt, with values."""
    keys = jax.random.split(jax.random.key(7), ROWS)
    found = sample(
        MODEL, SETTINGS, variables(), *repeated(ROWS), keys,
        value_head=HEAD, value_variables=head_variables(),
    )  # fmt: skip
    return jax.tree.map(np.asarray, found)


@functools.cache
def scored():
    """The same responses by teacher forcing: logits and hidden states."""
    found = many()
    return jax.tree.map(np.asarray, force(variables(), *repeated(ROWS), found.tokens, found.mask))


def cut(logits, *, temperature, top_k, top_p):
    """NumPy: log-probabilities after temperature, then top-k, then top-p, ties to lower ids."""
    logits = np.asarray(logits, np.float64) / temperature
    order = np.lexsort((np.arange(len(logits)), -logits))
    order = order[: len(order) if top_k is None else top_k]
    probs = np.exp(log_softmax(logits[order]))
    kept, mass = [], 0.0
    for index, prob in zip(order, probs, strict=True):
        if kept and mass >= top_p:
            break
        kept.append(index)
        mass += prob
    found = np.full(len(logits), -np.inf)
    found[kept] = log_softmax(logits[kept])
    return found


def outcomes():
    """All responses: up to the stop token, or cut at LENGTH."""
    for length in range(1, LENGTH + 1):
        for tokens in itertools.product(range(4), repeat=length):
            ends = [token == STOP for token in tokens]
            if not any(ends[:-1]) and (ends[-1] or length == LENGTH):
                yield tokens


def exact_probabilities(transform):
    """Probability of every outcome, from logits of single forward passes."""
    listed = list(outcomes())
    tokens = np.full((len(listed), LENGTH), PAD, np.int32)
    mask = np.zeros(tokens.shape, bool)
    for row, outcome in enumerate(listed):
        tokens[row, : len(outcome)], mask[row, : len(outcome)] = outcome, True
    logits = np.asarray(force(variables(), *repeated(len(listed)), tokens, mask).logits)
    return {
        outcome: np.exp(sum(transform(logits[row, t])[token] for t, token in enumerate(outcome)))
        for row, outcome in enumerate(listed)
    }


def p_value(counts, probabilities):
    """Chi-square of counts against probabilities; outcomes expected less than 5 times together."""
    observed, expected, rest = [], [], [0.0, 0.0]
    for outcome, probability in probabilities.items():
        if probability * ROWS >= 5.0:
            observed.append(counts.get(outcome, 0))
            expected.append(probability * ROWS)
        else:
            rest[0] += counts.get(outcome, 0)
            rest[1] += probability * ROWS
    if rest[1] > 1e-6:
        observed.append(rest[0])
        expected.append(rest[1])
    expected = np.asarray(expected) * (sum(observed) / sum(expected))
    return chisquare(observed, expected).pvalue


def test_samples_follow_the_exact_distribution():
    found = many()
    counts = {}
    for tokens, mask in zip(found.tokens, found.mask, strict=True):
        outcome = tuple(int(token) for token in tokens[mask])
        counts[outcome] = counts.get(outcome, 0) + 1
    settings = {"temperature": 0.7, "top_k": 3, "top_p": 0.8}
    probabilities = exact_probabilities(lambda logits: cut(logits, **settings))
    np.testing.assert_allclose(sum(probabilities.values()), 1.0, rtol=1e-6)
    impossible = {outcome for outcome, value in probabilities.items() if value == 0.0}
    assert impossible
    assert not impossible & counts.keys()
    assert p_value(counts, probabilities) > 0.01
    # The test sees a difference: each setting left out is refuted.
    for changed in ({"temperature": 1.0}, {"top_k": None}, {"top_p": 1.0}):
        other = exact_probabilities(
            lambda logits, changed=changed: cut(logits, **{**settings, **changed})
        )
        assert p_value(counts, other) < 1e-4, changed


@pytest.mark.smoke
def test_responses_end_at_the_stop_token():
    found = many()
    is_stop = (found.tokens == STOP) & found.mask
    length = found.mask.sum(1)
    np.testing.assert_array_equal(found.mask, np.arange(LENGTH) < length[:, None])
    assert length.min() >= 1
    np.testing.assert_array_equal(found.finished, is_stop.any(1))
    np.testing.assert_array_equal(is_stop.sum(1), found.finished)
    last = found.tokens[np.arange(ROWS), length - 1]
    assert (last[found.finished] == STOP).all()
    assert (length[~found.finished] == LENGTH).all()
    assert 0.1 < found.finished.mean() < 0.9
    for part in (found.tokens, found.log_probs, found.sampling_log_probs, found.values):
        assert (part[~found.mask] == 0).all()


def test_log_probs_and_values_are_those_of_teacher_forcing():
    found, output = many(), scored()
    exact = log_softmax(output.logits, axis=-1)
    raw = np.take_along_axis(exact, found.tokens[..., None], -1)[..., 0]
    np.testing.assert_allclose(found.log_probs[found.mask], raw[found.mask], atol=2e-5)
    values = np.asarray(HEAD.apply(head_variables(), output.hidden))
    np.testing.assert_allclose(found.values[found.mask], values[found.mask], atol=2e-5)
    for row in range(50):
        for t in range(found.mask[row].sum()):
            drawn_from = cut(output.logits[row, t], temperature=0.7, top_k=3, top_p=0.8)
            np.testing.assert_allclose(
                found.sampling_log_probs[row, t], drawn_from[found.tokens[row, t]], atol=2e-5
            )


def test_a_row_depends_on_its_prompt_and_key_only():
    keys = jax.random.split(jax.random.key(7), ROWS)
    rows = np.array([3, 0, 11])
    # Other neighbours, another order, two pads less and one more.
    alone = sample(
        MODEL, SETTINGS, variables(),
        jnp.asarray(PROMPT[None, 1:]), jnp.asarray(VALID[None, 1:]), keys[3:4],
        value_head=HEAD, value_variables=head_variables(),
    )  # fmt: skip
    prompts = np.array([[2, *PROMPT], [2, *PROMPT], [1, 2, 2, 1, 1]], np.int32)
    valid = np.array([[False, *VALID], [False, *VALID], [True] * 5])
    mixed = sample(
        MODEL, SETTINGS, variables(), jnp.asarray(prompts), jnp.asarray(valid), keys[rows],
        value_head=HEAD, value_variables=head_variables(),
    )  # fmt: skip
    whole = many()
    for found, row, source in ((alone, 0, 3), (mixed, 0, 3), (mixed, 1, 0)):
        np.testing.assert_array_equal(found.tokens[row], whole.tokens[source])
        np.testing.assert_allclose(found.log_probs[row], whole.log_probs[source], atol=2e-5)
        np.testing.assert_allclose(found.values[row], whole.values[source], atol=2e-5)


# The second prompt is one token: there is nothing to fill the cache with beforehand.
@pytest.mark.parametrize("prompt", [PROMPT[1:], np.array([2], np.int32)])
@pytest.mark.smoke
def test_greedy_takes_the_likeliest_token_of_single_passes(prompt):
    settings = SamplingConfig(max_new_tokens=LENGTH, stop_ids=(STOP,), temperature=0.0)
    prompts, valid = jnp.asarray(prompt[None]), jnp.ones((1, len(prompt)), bool)
    keys = jax.random.split(jax.random.key(0), 1)
    found = jax.tree.map(
        lambda x: np.asarray(x[0]), sample(MODEL, settings, variables(), prompts, valid, keys)
    )
    tokens, mask = np.zeros((1, LENGTH), np.int32), np.zeros((1, LENGTH), bool)
    for t in range(LENGTH):
        mask[0, t] = True  # a later slot cannot matter; that is tested elsewhere
        tokens[0, t] = np.argmax(force(variables(), prompts, valid, tokens, mask).logits[0, t])
        if tokens[0, t] == STOP:
            break
    np.testing.assert_array_equal(found.mask, mask[0])
    np.testing.assert_array_equal(found.tokens, tokens[0])
    np.testing.assert_array_equal(found.sampling_log_probs, 0.0)
    np.testing.assert_array_equal(found.values, 0.0)
    assert (found.log_probs[found.mask] < 0.0).all()


@pytest.mark.parametrize("temperature", [0.3, 1.0])
@pytest.mark.parametrize("top_k", [None, 1, 3, 50])
@pytest.mark.parametrize("top_p", [1e-6, 0.5, 0.9, 1.0])
def test_the_kept_tokens_are_numpys(temperature, top_k, top_p):
    generator = np.random.default_rng(0)
    # Halves make ties; adding 0 makes -0, which sorts below 0, a tie as well.
    logits = np.round(2.0 * generator.normal(0.0, 2.0, (40, 7))).astype(np.float32) / 2.0 + 0.0
    settings = SamplingConfig(
        max_new_tokens=1, stop_ids=(), temperature=temperature, top_k=top_k, top_p=top_p
    )
    found = log_softmax(np.asarray(filter_logits(jnp.asarray(logits), settings)), axis=-1)
    k = None if top_k is None else min(top_k, 7)
    expected = [cut(row, temperature=temperature, top_k=k, top_p=top_p) for row in logits]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_the_filter_of_greedy_decoding_keeps_one_token():
    settings = SamplingConfig(max_new_tokens=1, stop_ids=(), temperature=0.0)
    found = filter_logits(jnp.array([[1.0, 5.0, 5.0], [2.0, 1.0, 0.0]]), settings)
    np.testing.assert_array_equal(np.isfinite(found), [[False, True, False], [True, False, False]])


def test_teacher_forcing_is_differentiable():
    prompts, valid = repeated(2)
    tokens, mask = jnp.array([[1, 2, 3], [3, 0, 0]]), jnp.array([[True] * 3, [True, False, False]])

    def loss(variables):
        output = teacher_force(MODEL, variables, prompts, valid, tokens, mask)
        return jnp.sum(jnp.where(mask[..., None], output.logits, 0.0) ** 2)

    slope = jax.jit(jax.grad(loss))(variables())
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))
    assert any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(slope))


def test_right_alignment_keeps_the_order():
    tokens = jnp.array([[0, 5, 6, 0, 7], [1, 2, 3, 4, 5], [9, 0, 0, 0, 0]], jnp.int32)
    valid = jnp.array([[0, 1, 1, 0, 1], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]], bool)
    moved, mask = right_align(tokens, valid, 8)
    np.testing.assert_array_equal(moved, [[8, 8, 5, 6, 7], [1, 2, 3, 4, 5], [8, 8, 8, 8, 9]])
    np.testing.assert_array_equal(mask.sum(1), [3, 5, 1])
    assert mask[:, -1].all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, got 0"),
        ({"temperature": -0.1}, "temperature must be finite and at least 0"),
        ({"temperature": float("inf")}, "temperature must be finite"),
        ({"top_k": 0}, "top_k must be at least 1, or None for all, got 0"),
        ({"top_p": 0.0}, r"top_p must lie in \(0, 1\], got 0.0"),
        ({"top_p": 1.5}, "got 1.5"),
        ({"pad_id": -1}, "not negative, got pad_id -1"),
    ],
)
def test_impossible_settings_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        SamplingConfig(**{"max_new_tokens": 1, "stop_ids": (1,), **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stop_ids": (4,)}, "lies outside the vocabulary of 4 tokens"),
        ({"max_new_tokens": 13}, "17 slots exceeds max_length = 16"),
    ],
)
def test_settings_that_do_not_fit_the_model_are_named(changes, message):
    settings = SamplingConfig(**{"max_new_tokens": 3, "stop_ids": (STOP,), **changes})
    with pytest.raises(UserError, match=message):
        sample(MODEL, settings, variables(), *repeated(2), jax.random.split(jax.random.key(0), 2))
