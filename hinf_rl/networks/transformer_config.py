"""Settings of the decoder-only transformer."""

import dataclasses
import math
from typing import Literal

import jax.numpy as jnp
import numpy as np

from hinf_rl.errors import UserError

_DTYPES = {"bfloat16": jnp.bfloat16, "float32": jnp.float32}
_POSITIONS = ("learned", "rope")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """How Llama 3.1 and later stretch the slow rotary frequencies beyond the first context.

    Attributes:
      factor: what the slow frequencies are divided by.
      low_frequency_factor: wavelengths above original_length / this are divided in full.
      high_frequency_factor: wavelengths below original_length / this are kept; in between the
        two are blended.
      original_length: context length before the stretching, in tokens.
    """

    factor: float
    low_frequency_factor: float
    high_frequency_factor: float
    original_length: int

    def __post_init__(self) -> None:
        if not 1.0 <= self.factor < math.inf:
            raise UserError(f"rope_scaling.factor must be finite and at least 1, got {self.factor}")
        if not 0.0 < self.low_frequency_factor < self.high_frequency_factor:
            raise UserError(
                "rope_scaling needs 0 < low_frequency_factor < high_frequency_factor, got "
                f"{self.low_frequency_factor} and {self.high_frequency_factor}"
            )
        if self.original_length < 1:
            raise UserError(
                f"rope_scaling.original_length must be positive, got {self.original_length}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Settings of a transformer of the Llama and Qwen2 families; hashable, so a static argument.

    Attributes:
      vocab_size: number of tokens V.
      num_layers: blocks of attention and feed-forward.
      hidden_size: width D of the residual stream.
      num_heads: query heads H.
      num_kv_heads: key and value heads, a divisor of num_heads; None takes num_heads.
      head_dim: width of a head; None takes hidden_size / num_heads. Even with rotary positions.
      ff_size: inner width of the gated feed-forward, which holds three matrices.
      max_length: largest number of slots of a sequence, padding included.
      positions: "rope" turns queries and keys, "learned" adds a table to the embeddings.
      rope_theta: base of the rotary wavelengths.
      rope_scaling: their stretching, or None.
      norm_eps: added to the mean square under the root of RMSNorm.
      tie_embeddings: whether the embedding also maps hidden states to logits.
      qkv_bias: biases on queries, keys and values, as Qwen2 has.
      dtype: what is computed in; logits, norms and softmax are float32 in any case.
    """

    vocab_size: int
    num_layers: int = 2
    hidden_size: int = 64
    num_heads: int = 4
    num_kv_heads: int | None = None
    head_dim: int | None = None
    ff_size: int = 256
    max_length: int = 512
    positions: Literal["learned", "rope"] = "rope"
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    norm_eps: float = 1e-6
    tie_embeddings: bool = True
    qkv_bias: bool = False
    dtype: Literal["bfloat16", "float32"] = "float32"

    def __post_init__(self) -> None:
        self._check_sizes()
        self._check_heads()
        self._check_choices()

    def _check_sizes(self) -> None:
        names = ("vocab_size", "num_layers", "hidden_size", "num_heads", "ff_size", "max_length")
        for name in names:
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("rope_theta", "norm_eps"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise UserError(f"{name} must be positive and finite, got {getattr(self, name)}")

    def _check_heads(self) -> None:
        if self.head_dim is None and self.hidden_size % self.num_heads:
            raise UserError(
                f"hidden_size = {self.hidden_size} is not a multiple of num_heads = "
                f"{self.num_heads}; change one, or give head_dim"
            )
        if self.kv_heads < 1 or self.num_heads % self.kv_heads:
            raise UserError(
                f"num_kv_heads = {self.kv_heads} does not divide num_heads = {self.num_heads}"
            )
        if self.head_size < 1:
            raise UserError(f"head_dim must be at least 1, got {self.head_size}")
        if self.positions == "rope" and self.head_size % 2:
            raise UserError(
                f"rotary positions turn pairs, so that head_dim = {self.head_size} must be even; "
                'change it, or take positions="learned"'
            )

    def _check_choices(self) -> None:
        if self.positions not in _POSITIONS:
            raise UserError(
                f"positions must be one of {', '.join(_POSITIONS)}, got {self.positions!r}"
            )
        if self.dtype not in _DTYPES:
            raise UserError(f"dtype must be one of {', '.join(_DTYPES)}, got {self.dtype!r}")

    @property
    def kv_heads(self) -> int:
        """Number of key and value heads."""
        return self.num_heads if self.num_kv_heads is None else self.num_kv_heads

    @property
    def head_size(self) -> int:
        """Width of a head."""
        return self.hidden_size // self.num_heads if self.head_dim is None else self.head_dim

    @property
    def compute_dtype(self) -> np.dtype:
        """`dtype` as JAX knows it."""
        return np.dtype(_DTYPES[self.dtype])


__all__ = ["RopeScaling", "TransformerConfig"]
