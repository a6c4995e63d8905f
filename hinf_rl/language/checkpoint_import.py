"""Published Llama and Qwen2 checkpoints as variables of our transformer."""

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from hinf_rl.errors import UserError
from hinf_rl.language.checkpoint_config import transformer_config
from hinf_rl.language.safetensors import read_safetensors
from hinf_rl.networks import Transformer, TransformerConfig
from hinf_rl.types import Array, PyTree

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_SHOWN = 3  # names in a message

_TOP = {
    "model.embed_tokens.weight": ("embedding",),
    "model.norm.weight": ("final_norm", "scale"),
    "lm_head.weight": ("unembedding",),
}
_IN_LAYER = {
    "input_layernorm.weight": ("attention_norm", "scale"),
    "self_attn.q_proj.weight": ("attention", "query", "kernel"),
    "self_attn.q_proj.bias": ("attention", "query", "bias"),
    "self_attn.k_proj.weight": ("attention", "key", "kernel"),
    "self_attn.k_proj.bias": ("attention", "key", "bias"),
    "self_attn.v_proj.weight": ("attention", "value", "kernel"),
    "self_attn.v_proj.bias": ("attention", "value", "bias"),
    "self_attn.o_proj.weight": ("attention", "output", "kernel"),
    "post_attention_layernorm.weight": ("feed_forward_norm", "scale"),
    "mlp.gate_proj.weight": ("feed_forward", "gate", "kernel"),
    "mlp.up_proj.weight": ("feed_forward", "up", "kernel"),
    "mlp.down_proj.weight": ("feed_forward", "down", "kernel"),
}
# Some files hold tables that follow from the configuration.
_DERIVED = re.compile(r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq")


def load_checkpoint(
    directory: Path | str, *, dtype: Literal["bfloat16", "float32"] = "float32"
) -> tuple[TransformerConfig, PyTree]:
    """Reads config.json and the safetensors files of a checkpoint.

    Args:
      directory: holds config.json and model.safetensors, or its parts with their index.
      dtype: what parameters are held in and what is computed in.

    Returns:
      Settings, and the variables for `Transformer(settings)`.

    Raises:
      UserError: a file is missing or damaged, the family or a variant is unknown, or tensors
        are missing, unexpected or of the wrong shape.
    """
    directory = Path(directory)
    source = _read_table(directory / "config.json")
    config = dataclasses.replace(transformer_config(source), dtype=dtype)
    stored = _drop_redundant(_read_tensors(directory), config)
    shapes = jax.eval_shape(
        Transformer(config).init, jax.random.key(0), jax.ShapeDtypeStruct((1, 1), jnp.int32)
    )["params"]
    names = _names(config)
    _check_names(directory, names, stored)
    params: dict[str, Any] = {}
    for name, path in names.items():
        value = _convert(name, stored[name], _get(shapes, path).shape, config)
        _set(params, path, value)
    return config, {"params": params}


def _names(config: TransformerConfig) -> dict[str, tuple[str, ...]]:
    """Every tensor that the file must hold, with its place among our parameters."""
    names = {name: path for name, path in _TOP.items() if path != ("unembedding",)}
    if not config.tie_embeddings:
        names["lm_head.weight"] = _TOP["lm_head.weight"]
    for index in range(config.num_layers):
        for name, path in _IN_LAYER.items():
            if path[-1] != "bias" or config.qkv_bias:
                names[f"model.layers.{index}.{name}"] = (f"layers_{index}", *path)
    return names


def _read_tensors(directory: Path) -> dict[str, NDArray[Any]]:
    if (directory / _INDEX).exists():
        return _read_parts(directory)
    if not (directory / _SINGLE).exists():
        raise UserError(
            f"{directory} holds neither {_SINGLE} nor {_INDEX}; save the model in the safetensors "
            "format"
        )
    return read_safetensors(directory / _SINGLE)


def _read_parts(directory: Path) -> dict[str, NDArray[Any]]:
    """The tensors of all parts, each where the index says."""
    index = directory / _INDEX
    places = _read_table(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(file, str) for file in places.values()):
        raise UserError(f"{index} has no weight_map from tensors to files; fetch it again")
    stored: dict[str, NDArray[Any]] = {}
    for file in sorted(set(places.values())):
        if Path(file).name != file:
            raise UserError(f"{index} names {file!r}, which is not a file beside it")
        part = read_safetensors(directory / file)
        strayed = [name for name in part if places.get(name) != file]
        if strayed:
            raise UserError(f"{directory / file} holds what {index.name} does not place there: "
                            f"{_some(strayed)}")  # fmt: skip
        stored |= part
    absent = places.keys() - stored.keys()
    if absent:
        raise UserError(f"{index} places tensors that its files do not hold: {_some(absent)}")
    return stored


def _drop_redundant(
    stored: dict[str, NDArray[Any]], config: TransformerConfig
) -> dict[str, NDArray[Any]]:
    """Leaves out what follows from the rest: frequency tables, and the head of a tied model."""
    kept = {name: value for name, value in stored.items() if not _DERIVED.fullmatch(name)}
    head, embedding = kept.get("lm_head.weight"), kept.get("model.embed_tokens.weight")
    if config.tie_embeddings and head is not None and embedding is not None:
        if not np.array_equal(head, embedding):
            raise UserError(
                "config.json ties lm_head to the embedding, and the file holds another lm_head; "
                "set tie_word_embeddings to false"
            )
        del kept["lm_head.weight"]
    return kept


def _check_names(directory: Path, names: Iterable[str], stored: Iterable[str]) -> None:
    for kind, found in (
        ("lacks tensors", set(names) - set(stored)),
        ("holds unexpected tensors", set(stored) - set(names)),
    ):
        if found:
            raise UserError(
                f"the checkpoint in {directory} {kind}: {_some(found)}; its config.json "
                "describes another model"
            )


def _convert(
    name: str, value: NDArray[Any], shape: tuple[int, ...], config: TransformerConfig
) -> Array:
    """One tensor in our layout: a matrix of the files maps [in] to [out] as [out, in], ours not."""
    is_table = name in _TOP
    expected = shape if is_table else shape[::-1]
    if value.shape != expected:
        raise UserError(
            f"tensor {name} has shape {list(value.shape)}, and config.json asks for "
            f"{list(expected)}"
        )
    turned = value if is_table else value.T
    # A copy: arrays must not live on in the mapped file.
    return jnp.array(np.array(turned, config.compute_dtype, order="C"))


def _read_table(path: Path) -> dict[str, Any]:
    """A JSON object."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror}; name the directory of a checkpoint"
        ) from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); fetch it again") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} is not a JSON object; fetch it again")
    return found


def _get(tree: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _set(tree: dict[str, Any], path: tuple[str, ...], value: Array) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value


def _some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = len(ordered) - _SHOWN
    return ", ".join(ordered[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


__all__ = ["load_checkpoint"]
