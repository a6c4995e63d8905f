"""What a published checkpoint's config.json means for our transformer."""

import math
from collections.abc import Mapping
from typing import Any

from hinf_rl.errors import UserError, unknown_name
from hinf_rl.networks import RopeScaling, TransformerConfig

# Whether a family has biases on queries, keys and values.
_QKV_BIAS = {"llama": False, "qwen2": True}
_DEFAULT_THETA = 10_000.0

# Fields that change the computation, with the only values that we compute.
_FIXED: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "use_sliding_window": (False,),
    "quantization_config": (None,),
}


def transformer_config(source: Mapping[str, Any]) -> TransformerConfig:
    """Returns the settings of a Llama or Qwen2 checkpoint.

    Args:
      source: the content of config.json, with rotary settings at the top (`rope_theta`,
        `rope_scaling`) or together (`rope_parameters`), as releases differ.

    Raises:
      UserError: another family, a field that is missing or of the wrong type, or a variant that
        the transformer does not compute.
    """
    family = source.get("model_type")
    if family not in _QKV_BIAS:
        raise unknown_name("model_type", str(family), _QKV_BIAS)
    _check_variant(source)
    rope = _rope_parameters(source)
    return TransformerConfig(
        vocab_size=_integer(source, "vocab_size"),
        num_layers=_integer(source, "num_hidden_layers"),
        hidden_size=_integer(source, "hidden_size"),
        num_heads=_integer(source, "num_attention_heads"),
        num_kv_heads=_optional_integer(source, "num_key_value_heads"),
        head_dim=_optional_integer(source, "head_dim"),
        ff_size=_integer(source, "intermediate_size"),
        max_length=_integer(source, "max_position_embeddings"),
        rope_theta=_number(rope, "rope_theta"),
        rope_scaling=_rope_scaling(rope),
        norm_eps=_number(source, "rms_norm_eps"),
        tie_embeddings=bool(source.get("tie_word_embeddings", False)),
        qkv_bias=_QKV_BIAS[family],
    )


def _check_variant(source: Mapping[str, Any]) -> None:
    for name, allowed in _FIXED.items():
        if source.get(name, allowed[0]) not in allowed:
            raise UserError(
                f"config.json has {name} = {source[name]!r}; only {allowed[0]!r} is supported"
            )
    kinds = set(source.get("layer_types") or ()) - {"full_attention"}
    if kinds:
        raise UserError(
            f"config.json has layers of type {', '.join(sorted(kinds))}; only full_attention is "
            "supported"
        )


def _rope_parameters(source: Mapping[str, Any]) -> dict[str, Any]:
    """Rotary settings in one table, whichever release wrote them."""
    found = {"rope_theta": source.get("rope_theta", _DEFAULT_THETA)}
    return found | (source.get("rope_scaling") or {}) | (source.get("rope_parameters") or {})


def _rope_scaling(rope: Mapping[str, Any]) -> RopeScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind != "llama3":
        raise unknown_name("rope_type", str(kind), ("default", "llama3"))
    return RopeScaling(
        factor=_number(rope, "factor"),
        low_frequency_factor=_number(rope, "low_freq_factor"),
        high_frequency_factor=_number(rope, "high_freq_factor"),
        original_length=_integer(rope, "original_max_position_embeddings"),
    )


def _integer(source: Mapping[str, Any], name: str) -> int:
    value = source.get(name)
    if type(value) is not int:
        raise UserError(f"config.json needs {name} as a whole number, got {value!r}")
    return value


def _optional_integer(source: Mapping[str, Any], name: str) -> int | None:
    return None if source.get(name) is None else _integer(source, name)


def _number(source: Mapping[str, Any], name: str) -> float:
    value = source.get(name)
    if type(value) not in (int, float) or not math.isfinite(value):
        raise UserError(f"config.json needs {name} as a number, got {value!r}")
    return float(value)


__all__ = ["transformer_config"]
