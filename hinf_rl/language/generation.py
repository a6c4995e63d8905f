"""Sampling with a key-value cache, and the same tokens scored by teacher forcing.

Prompts are left-padded, so that all of them end in the last slot; responses are right-padded.
"""

import dataclasses
import functools
import math
from typing import NamedTuple, cast

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from hinf_rl.errors import UserError
from hinf_rl.language.losses import token_log_probs
from hinf_rl.networks import KVCache, Output, Transformer, init_cache
from hinf_rl.types import Array, PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How tokens are drawn; hashable, so a static argument.

    Temperature comes first, then top-k, then top-p, each on what the former left.

    Attributes:
      max_new_tokens: number of tokens N after which a response is cut.
      stop_ids: tokens that end a response and still belong to it: end of text, or end of a step.
      pad_id: what follows them.
      temperature: what logits are divided by; 0 takes the likeliest token.
      top_k: how many of the likeliest tokens may come; None for all.
      top_p: least mass of the likeliest tokens that may come: the smallest set that reaches it.
    """

    max_new_tokens: int
    stop_ids: tuple[int, ...]
    pad_id: int = 0
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise UserError(f"max_new_tokens must be at least 1, got {self.max_new_tokens}")
        if not 0.0 <= self.temperature < math.inf:
            raise UserError(
                f"temperature must be finite and at least 0 (0 is greedy), got {self.temperature}"
            )
        if self.top_k is not None and self.top_k < 1:
            raise UserError(f"top_k must be at least 1, or None for all, got {self.top_k}")
        if not 0.0 < self.top_p <= 1.0:
            raise UserError(f"top_p must lie in (0, 1], got {self.top_p}")
        if any(index < 0 for index in (self.pad_id, *self.stop_ids)):
            raise UserError(
                f"token ids are not negative, got pad_id {self.pad_id}, stop_ids {self.stop_ids}"
            )


class Samples(NamedTuple):
    """B responses of up to N tokens. Floats are 0 where `mask` is false.

    Attributes:
      tokens: [B, N] int32, `pad_id` after the stop token.
      mask: [B, N] bool, true up to the stop token and on it.
      log_probs: [B, N] under the model itself, softmax(logits).
      sampling_log_probs: [B, N] under what was drawn from: tempered and truncated; 0 if greedy.
      values: [B, N] of the state before the token; 0 without a value head.
      finished: [B] bool, whether a stop token came before the cut.
    """

    tokens: Array
    mask: Array
    log_probs: Array
    sampling_log_probs: Array
    values: Array
    finished: Array


class _Carry(NamedTuple):
    """Last token [B], whether it is real [B], whether the response is over [B], and the cache."""

    token: Array
    is_real: Array
    done: Array
    cache: KVCache


@functools.partial(jax.jit, static_argnames=("transformer", "settings", "value_head"))
def sample(
    transformer: Transformer,
    settings: SamplingConfig,
    variables: PyTree,
    prompts: Array,
    valid: Array,
    keys: Array,
    *,
    value_head: nn.Module | None = None,
    value_variables: PyTree = None,
) -> Samples:
    """Draws one response per prompt, in one compiled scan.

    Row i depends on prompt i and keys[i] only: neither on its neighbours nor on the amount of
    padding.

    Args:
      transformer: the model; static, as are `settings` and `value_head`.
      settings: how tokens are drawn.
      variables: the transformer's.
      prompts: [B, P] int32, left-padded, each with at least one token.
      valid: [B, P] bool; its last column is true.
      keys: [B] PRNG keys, one per response; token t is drawn with fold_in(key, t).
      value_head: maps hidden states [B, D] to [B].
      value_variables: the head's.

    Returns:
      Samples.

    Raises:
      UserError: prompt and response exceed the model's length, or an id its vocabulary.
    """
    _check(transformer, settings, prompts, valid, keys)
    cache = init_cache(transformer.config, len(prompts), prompts.shape[1] + settings.max_new_tokens)
    if prompts.shape[1] > 1:
        _, cache = _extend(transformer, variables, prompts[:, :-1], valid[:, :-1], cache)

    def body(carry: _Carry, step: Array) -> tuple[_Carry, tuple[Array, ...]]:
        output, cache = _extend(
            transformer, variables, carry.token[:, None], carry.is_real[:, None], carry.cache
        )
        logits, hidden = output.logits[:, 0], output.hidden[:, 0]
        token, log_prob = _draw(logits, keys, step, settings)
        value = jnp.zeros(token.shape, jnp.float32)
        if value_head is not None:
            value = cast(Array, value_head.apply(value_variables, hidden))
        alive = ~carry.done
        token = jnp.where(alive, token, jnp.int32(settings.pad_id))
        floats = (token_log_probs(logits, token), log_prob, value)
        floats = tuple(jnp.where(alive, x, 0.0) for x in floats)
        done = carry.done | _is_stop(token, settings.stop_ids)
        return _Carry(token, alive, done, cache), (token, alive, *floats)

    start = _Carry(prompts[:, -1], valid[:, -1], jnp.zeros(len(prompts), jnp.bool_), cache)
    steps = jnp.arange(settings.max_new_tokens, dtype=jnp.int32)
    end, columns = jax.lax.scan(body, start, steps)
    return Samples(*(jnp.swapaxes(column, 0, 1) for column in columns), end.done)


def filter_logits(logits: Array, settings: SamplingConfig) -> Array:
    """Logits of what is drawn from: tempered, and -inf outside of top-k and top-p.

    Ties go to the lower id, so that never more than k tokens stay. Top-p keeps a token while the
    mass of the likelier ones is below p, hence always the first. Source: Holtzman et al. 2020.

    Args:
      logits: [B, V].
      settings: temperature 0 keeps the likeliest token alone.

    Returns:
      [B, V] float32.
    """
    chex.assert_rank(logits, 2)
    logits = logits.astype(jnp.float32)
    is_greedy = settings.temperature == 0.0
    if not is_greedy:
        logits = logits / settings.temperature
    size = logits.shape[-1]
    count = 1 if is_greedy else min(settings.top_k or size, size)
    if count == size and settings.top_p == 1.0:
        return logits
    values, ids = jax.lax.top_k(logits, count)
    if settings.top_p < 1.0:
        probs = jax.nn.softmax(values, axis=-1)
        likelier_mass = jnp.cumsum(probs, axis=-1) - probs
        values = jnp.where(likelier_mass < settings.top_p, values, -jnp.inf)
    rows = jnp.arange(len(logits), dtype=jnp.int32)[:, None]
    return jnp.full_like(logits, -jnp.inf).at[rows, ids].set(values)


def teacher_force(
    transformer: Transformer,
    variables: PyTree,
    prompts: Array,
    valid: Array,
    tokens: Array,
    mask: Array,
) -> Output:
    """What the model says about given responses; differentiable.

    Args:
      transformer: the model.
      variables: its variables.
      prompts: [B, P] int32, left-padded, each with at least one token.
      valid: [B, P] bool.
      tokens: [B, N] int32 responses, right-padded.
      mask: [B, N] bool.

    Returns:
      Output aligned with the responses: slot t is about the state before tokens[:, t], so that
      `token_log_probs(output.logits, tokens)` are the tokens' log-probabilities.
    """
    # The last token of a response predicts nothing that is asked for.
    sequence = jnp.concatenate([prompts, tokens[:, :-1]], axis=1)
    is_token = jnp.concatenate([valid, mask[:, :-1]], axis=1)
    output = cast(Output, transformer.apply(variables, sequence, is_token))
    start = prompts.shape[1] - 1
    return Output(output.logits[:, start:], output.hidden[:, start:])


def right_align(tokens: Array, valid: Array, pad_id: int) -> tuple[Array, Array]:
    """Moves the real tokens of each row to its right end, in their order.

    Makes prompts of prefixes: of a prompt with a part of its response, or of a node of a tree.

    Args:
      tokens: [B, T] int32 with padding anywhere.
      valid: [B, T] bool.
      pad_id: what fills the front.

    Returns:
      [B, T] tokens and mask, left-padded.
    """
    chex.assert_equal_shape([tokens, valid])
    order = jnp.argsort(valid, axis=1, stable=True)  # false before true
    moved = jnp.take_along_axis(valid, order, axis=1)
    tokens = jnp.take_along_axis(tokens, order, axis=1)
    return jnp.where(moved, tokens, jnp.int32(pad_id)), moved


def _extend(
    transformer: Transformer, variables: PyTree, tokens: Array, valid: Array, cache: KVCache
) -> tuple[Output, KVCache]:
    found = transformer.apply(variables, tokens, valid, cache, method="extend")
    return cast(tuple[Output, KVCache], found)


def _draw(logits: Array, keys: Array, step: Array, settings: SamplingConfig) -> tuple[Array, Array]:
    """[B] tokens and their log-probabilities under what they are drawn from."""
    if settings.temperature == 0.0:
        token = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        return token, jnp.zeros(token.shape, jnp.float32)
    filtered = filter_logits(logits, settings)

    def draw(key: Array, row: Array) -> Array:
        return jax.random.categorical(jax.random.fold_in(key, step), row)

    token = jax.vmap(draw)(keys, filtered).astype(jnp.int32)
    return token, token_log_probs(filtered, token)


def _is_stop(token: Array, stop_ids: tuple[int, ...]) -> Array:
    stops = [token == index for index in stop_ids]
    return functools.reduce(jnp.logical_or, stops, jnp.zeros(token.shape, jnp.bool_))


def _check(
    transformer: Transformer, settings: SamplingConfig, prompts: Array, valid: Array, keys: Array
) -> None:
    chex.assert_rank([prompts, keys], [2, 1])
    chex.assert_equal_shape([prompts, valid])
    chex.assert_equal_shape_prefix([prompts, keys], 1)
    size = transformer.config.vocab_size
    if max((settings.pad_id, *settings.stop_ids)) >= size:
        raise UserError(
            f"pad_id {settings.pad_id} or a stop id of {settings.stop_ids} lies outside the "
            f"vocabulary of {size} tokens"
        )


__all__ = [
    "Samples",
    "SamplingConfig",
    "filter_logits",
    "right_align",
    "sample",
    "teacher_force",
]
