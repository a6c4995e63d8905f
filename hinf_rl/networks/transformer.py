"""Decoder-only transformer of the Llama and Qwen2 families, with an explicit key-value cache.

Blocks are pre-normed: x + attention(RMSNorm(x)), then x + feed-forward(RMSNorm(x)) with SwiGLU.
The module computes whole sequences (`__call__`) or goes on from a cache (`extend`); both run
the same blocks and differ only in where keys and values live.

Padding may stand anywhere. A slot counts as a token where `valid` is true; positions count tokens,
not slots, and nobody attends to an invalid slot, so that padding changes nothing for the tokens.
"""

from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from hinf_rl.errors import UserError
from hinf_rl.networks.transformer_config import RopeScaling, TransformerConfig
from hinf_rl.types import Array

# Finite, since a padded query may see no key at all: it gets an even mixture, not NaN.
_MASKED = -1e30
_EMBEDDING_STD = 0.02


class KVCache(NamedTuple):
    """Keys and values of the slots so far, K key-value heads of width H, S slots.

    Attributes:
      keys: per layer [B, K, S, H], already turned by their positions.
      values: per layer [B, K, S, H].
      valid: [B, S] bool, which slots hold a token; false beyond `index`.
      index: [] int32, the next slot to be written. The caller sees to it that it stays within S.
    """

    keys: tuple[Array, ...]
    values: tuple[Array, ...]
    valid: Array
    index: Array


class Output(NamedTuple):
    """What a transformer says about T slots.

    Attributes:
      logits: [B, T, V] float32; those of slot t are about the token that follows it.
      hidden: [B, T, D] float32 after the last norm; what further heads read.
    """

    logits: Array
    hidden: Array


class _Frame(NamedTuple):
    """What all blocks share: angles [B, T, H/2], if positions are rotary, and allowed [B, T, S]."""

    angles: Array | None
    allowed: Array


class _Past(NamedTuple):
    """One layer of a cache, and the slot [] from which it is to be written."""

    keys: Array
    values: Array
    index: Array


def init_cache(config: TransformerConfig, batch_size: int, num_slots: int) -> KVCache:
    """Returns an empty cache for sequences of up to `num_slots` slots, padding included.

    Raises:
      UserError: more slots than `config.max_length`.
    """
    _check_length(config, num_slots)
    shape = (batch_size, config.kv_heads, num_slots, config.head_size)
    # Every layer gets buffers of its own: a donated argument must not appear twice.
    keys, values = (
        tuple(jnp.zeros(shape, config.compute_dtype) for _ in range(config.num_layers))
        for _ in range(2)
    )
    valid = jnp.zeros((batch_size, num_slots), jnp.bool_)
    return KVCache(keys, values, valid, jnp.zeros((), jnp.int32))


def rope_frequencies(config: TransformerConfig) -> np.ndarray:
    """[H/2] float32 radians per position: theta^(-2i/H), the slow ones stretched if so configured.

    Source: Su et al. 2021 (RoFormer), section 3.2; stretching as in Llama 3.1.
    """
    exponent = np.arange(0, config.head_size, 2, dtype=np.float64) / config.head_size
    frequency = config.rope_theta**-exponent
    if config.rope_scaling is not None:
        frequency = _stretch(frequency, config.rope_scaling)
    return frequency.astype(np.float32)


def _stretch(frequency: np.ndarray, scaling: RopeScaling) -> np.ndarray:
    turns = scaling.original_length * frequency / (2.0 * np.pi)  # in the first context
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return frequency * (kept + (1.0 - kept) / scaling.factor)


def _rotate(x: Array, angles: Array) -> Array:
    """Turns pair (i, i + H/2) of [B, T, heads, H] by angles [B, T, H/2]."""
    cos, sin = jnp.cos(angles)[:, :, None, :], jnp.sin(angles)[:, :, None, :]
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)


def _attend(queries: Array, keys: Array, values: Array, allowed: Array) -> Array:
    """Scaled dot-product attention; query heads in groups share a key-value head.

    Args:
      queries: [B, T, K * G, H].
      keys: [B, K, S, H].
      values: [B, K, S, H].
      allowed: [B, T, S] bool.

    Returns:
      [B, T, K * G * H].
    """
    batch, length, _, size = queries.shape
    grouped = queries.reshape(batch, length, keys.shape[1], -1, size)
    scores = jnp.einsum("btkgh,bksh->bkgts", grouped, keys, preferred_element_type=jnp.float32)
    scores = jnp.where(allowed[:, None, None], scores * size**-0.5, _MASKED)
    weights = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
    mixed = jnp.einsum("bkgts,bksh->btkgh", weights, values)
    return mixed.reshape(batch, length, -1)


class _RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) times a learned scale, in float32. Source: Zhang & Sennrich 2019.

    Flax's own asks for implicit promotion where x is bfloat16.
    """

    eps: float

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:], jnp.float32)
        wide = x.astype(jnp.float32)
        normed = wide * jax.lax.rsqrt(jnp.mean(wide**2, axis=-1, keepdims=True) + self.eps)
        return (normed * scale.astype(jnp.float32)[None, None]).astype(x.dtype)


class _Attention(nn.Module):
    """Grouped-query attention over the slots of this call, or of a cache."""

    config: TransformerConfig

    @nn.compact
    def __call__(
        self, x: Array, frame: _Frame, past: _Past | None
    ) -> tuple[Array, tuple[Array, Array]]:
        config = self.config
        queries = self._project("query", x, config.num_heads)
        keys = self._project("key", x, config.kv_heads)
        if frame.angles is not None:
            queries, keys = _rotate(queries, frame.angles), _rotate(keys, frame.angles)
        keys = jnp.swapaxes(keys, 1, 2)
        values = jnp.swapaxes(self._project("value", x, config.kv_heads), 1, 2)
        if past is not None:
            start = (0, 0, past.index, 0)
            keys = jax.lax.dynamic_update_slice(past.keys, keys, start)
            values = jax.lax.dynamic_update_slice(past.values, values, start)
        mixed = _attend(queries, keys, values, frame.allowed)
        return _residual_dense(config, config.hidden_size, "output")(mixed), (keys, values)

    def _project(self, name: str, x: Array, heads: int) -> Array:
        config = self.config
        width = heads * config.head_size
        dense = nn.Dense(width, use_bias=config.qkv_bias, dtype=config.compute_dtype, name=name)
        return dense(x).reshape(*x.shape[:2], heads, config.head_size)


class _FeedForward(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x)). Source: Shazeer 2020."""

    config: TransformerConfig

    @nn.compact
    def __call__(self, x: Array) -> Array:
        config = self.config
        gate, up = (
            nn.Dense(config.ff_size, use_bias=False, dtype=config.compute_dtype, name=name)(x)
            for name in ("gate", "up")
        )
        return _residual_dense(config, config.hidden_size, "down")(jax.nn.silu(gate) * up)


class _Block(nn.Module):
    """Attention and feed-forward, each on the normed stream and added to it."""

    config: TransformerConfig

    @nn.compact
    def __call__(
        self, x: Array, frame: _Frame, past: _Past | None
    ) -> tuple[Array, tuple[Array, Array]]:
        normed = _norm(self.config, "attention_norm")(x)
        mixed, present = _Attention(self.config, name="attention")(normed, frame, past)
        x = x + mixed
        normed = _norm(self.config, "feed_forward_norm")(x)
        return x + _FeedForward(self.config, name="feed_forward")(normed), present


class Transformer(nn.Module):
    """Maps tokens to the logits of the next ones.

    Attributes:
      config: sizes and choices.
    """

    config: TransformerConfig

    def setup(self) -> None:
        """Declares the parameters that both methods share."""
        config = self.config
        normal = nn.initializers.normal(_EMBEDDING_STD)
        shape = (config.vocab_size, config.hidden_size)
        self.embedding = self.param("embedding", normal, shape, jnp.float32)
        if config.positions == "learned":
            table = (config.max_length, config.hidden_size)
            self.position_embedding = self.param("position_embedding", normal, table, jnp.float32)
        self.layers = [_Block(config) for _ in range(config.num_layers)]
        self.final_norm = _norm(config, None)
        if not config.tie_embeddings:
            self.unembedding = self.param("unembedding", normal, shape, jnp.float32)

    def __call__(self, tokens: Array, valid: Array | None = None) -> Output:
        """Computes whole sequences.

        Args:
          tokens: [B, T] int32 in 0..V-1.
          valid: [B, T] bool, false on padding; None where there is none.

        Returns:
          Output of [B, T] slots; those of padding mean nothing but are finite.

        Raises:
          UserError: more slots than `config.max_length`.
        """
        valid = jnp.ones(tokens.shape, jnp.bool_) if valid is None else valid
        _check_inputs(tokens, valid)
        _check_length(self.config, tokens.shape[1])
        slots = jnp.arange(tokens.shape[1], dtype=jnp.int32)
        allowed = valid[:, None, :] & (slots[None, :] <= slots[:, None])[None]
        output, _ = self._run(tokens, _positions(valid, None), allowed, None)
        return output

    def extend(self, tokens: Array, valid: Array, cache: KVCache) -> tuple[Output, KVCache]:
        """Computes the next slots of sequences whose past is in `cache`.

        Args:
          tokens: [B, t] int32.
          valid: [B, t] bool, false on padding.
          cache: with room for t more slots.

        Returns:
          Output of the t slots, equal to that of the whole sequence, and the grown cache.
        """
        _check_inputs(tokens, valid)
        all_valid = jax.lax.dynamic_update_slice(cache.valid, valid, (0, cache.index))
        own = cache.index + jnp.arange(tokens.shape[1], dtype=jnp.int32)
        slots = jnp.arange(cache.valid.shape[1], dtype=jnp.int32)
        allowed = all_valid[:, None, :] & (slots[None, :] <= own[:, None])[None]
        output, (keys, values) = self._run(tokens, _positions(valid, cache.valid), allowed, cache)
        return output, KVCache(keys, values, all_valid, cache.index + tokens.shape[1])

    def _run(
        self, tokens: Array, positions: Array, allowed: Array, cache: KVCache | None
    ) -> tuple[Output, tuple[tuple[Array, ...], tuple[Array, ...]]]:
        config = self.config
        x = self.embedding[tokens].astype(config.compute_dtype)
        angles = None
        if config.positions == "learned":
            x = x + self.position_embedding[positions].astype(config.compute_dtype)
        else:
            angles = positions.astype(jnp.float32)[..., None] * rope_frequencies(config)[None, None]
        frame = _Frame(angles, allowed)
        present = []
        for index, layer in enumerate(self.layers):
            past = None
            if cache is not None:
                past = _Past(cache.keys[index], cache.values[index], cache.index)
            x, pair = layer(x, frame, past)
            present.append(pair)
        hidden = self.final_norm(x)
        keys, values = zip(*present, strict=True)
        return Output(self._logits(hidden), hidden.astype(jnp.float32)), (keys, values)

    def _logits(self, hidden: Array) -> Array:
        table = self.embedding if self.config.tie_embeddings else self.unembedding
        table = table.astype(hidden.dtype)
        return jnp.einsum("btd,vd->btv", hidden, table, preferred_element_type=jnp.float32)


def _residual_dense(config: TransformerConfig, width: int, name: str) -> nn.Dense:
    """Map back into the residual stream, started small enough that depth does not blow it up."""
    scale = 1.0 / (2.0 * config.num_layers)  # variance: two additions per layer
    init = nn.initializers.variance_scaling(scale, "fan_in", "truncated_normal")
    return nn.Dense(width, use_bias=False, dtype=config.compute_dtype, kernel_init=init, name=name)


def _norm(config: TransformerConfig, name: str | None) -> _RMSNorm:
    return _RMSNorm(config.norm_eps, name=name)


def _positions(valid: Array, past: Array | None) -> Array:
    """[B, T] int32: how many tokens stand before each slot; 0 on leading padding."""
    count = jnp.cumsum(valid, axis=1, dtype=jnp.int32) - 1
    if past is not None:
        count = count + jnp.sum(past, axis=1, dtype=jnp.int32)[:, None]
    return jnp.maximum(count, 0)


def _check_inputs(tokens: Array, valid: Array) -> None:
    chex.assert_rank(tokens, 2)
    chex.assert_equal_shape([tokens, valid])
    chex.assert_type([tokens, valid], [jnp.int32, jnp.bool_])


def _check_length(config: TransformerConfig, num_slots: int) -> None:
    if num_slots > config.max_length:
        raise UserError(
            f"a sequence of {num_slots} slots exceeds max_length = {config.max_length}; shorten "
            "it, or raise max_length"
        )


__all__ = ["KVCache", "Output", "Transformer", "init_cache", "rope_frequencies"]
