"""Imported checkpoints against a NumPy forward pass, block by block, and broken ones."""

import functools
import json

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from hinf_rl.errors import UserError
from hinf_rl.language.checkpoint_import import load_checkpoint
from hinf_rl.networks import Transformer

LLAMA = {
    "model_type": "llama",
    "vocab_size": 19,
    "hidden_size": 12,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-3,
    "rope_theta": 50.0,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    },
    "tie_word_embeddings": False,
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
}
QWEN2 = {
    "model_type": "qwen2",
    "vocab_size": 17,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "hidden_act": "silu",
}
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
TOKENS = np.array([5, 0, 16, 3, 3, 7, 1, 12, 2], np.int32)


def forward(config, tensors, tokens):
    """Streams after every block [T, D], normed hidden states [T, D], logits [T, V], in float64.

    The families' definition on a checkpoint's own tensors and config.json: one position and one
    head at a time, rotary positions as products of complex numbers.
    """
    weights = {name: np.asarray(value, np.float64) for name, value in tensors.items()}
    stream = weights["model.embed_tokens.weight"][tokens]
    after_block = []
    for index in range(config["num_hidden_layers"]):
        layer = {
            name.removeprefix(f"model.layers.{index}."): value
            for name, value in weights.items()
            if name.startswith(f"model.layers.{index}.")
        }
        eps = config["rms_norm_eps"]
        normed = rms_norm(stream, layer["input_layernorm.weight"], eps)
        stream = stream + attention(config, layer, normed)
        normed = rms_norm(stream, layer["post_attention_layernorm.weight"], eps)
        gate = normed @ layer["mlp.gate_proj.weight"].T
        inner = gate / (1.0 + np.exp(-gate)) * (normed @ layer["mlp.up_proj.weight"].T)
        stream = stream + inner @ layer["mlp.down_proj.weight"].T
        after_block.append(stream)
    hidden = rms_norm(stream, weights["model.norm.weight"], eps)
    is_tied = config["tie_word_embeddings"]
    head = weights["model.embed_tokens.weight" if is_tied else "lm_head.weight"]
    return after_block, hidden, hidden @ head.T


def rms_norm(x, weight, eps):
    return x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + eps) * weight


def attention(config, layer, x):
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    size = config.get("head_dim") or config["hidden_size"] // heads
    queries, keys, values = (linear(layer, f"self_attn.{name}_proj", x) for name in "qkv")
    mixed = np.zeros((len(x), heads * size))
    for head in range(heads):
        shared = head * kv_heads // heads
        own = slice(head * size, (head + 1) * size)
        source = slice(shared * size, (shared + 1) * size)
        turned = [turn(config, t, key) for t, key in enumerate(keys[:, source])]
        for t in range(len(x)):
            query = turn(config, t, queries[t, own])
            scores = np.array([query @ key for key in turned[: t + 1]]) / np.sqrt(size)
            weights = np.exp(scores - scores.max())
            mixed[t, own] = weights / weights.sum() @ values[: t + 1, source]
    return mixed @ layer["self_attn.o_proj.weight"].T


def linear(layer, name, x):
    return x @ layer[f"{name}.weight"].T + layer.get(f"{name}.bias", 0.0)


def turn(config, position, vector):
    """Multiplies first half + i second half by exp(i position frequency)."""
    half = len(vector) // 2
    number = vector[:half] + 1j * vector[half:]
    angles = [position * frequency(config, i, half) for i in range(half)]
    turned = number * np.exp(1j * np.array(angles))
    return np.concatenate([turned.real, turned.imag])


def frequency(config, index, half):
    plain = config["rope_theta"] ** (-index / half)
    scaling = config.get("rope_scaling")
    if scaling is None:
        return plain
    length = scaling["original_max_position_embeddings"]
    wavelength = 2.0 * np.pi / plain
    if wavelength < length / scaling["high_freq_factor"]:
        return plain
    if wavelength > length / scaling["low_freq_factor"]:
        return plain / scaling["factor"]
    span = scaling["high_freq_factor"] - scaling["low_freq_factor"]
    smooth = (length / wavelength - scaling["low_freq_factor"]) / span
    return (1.0 - smooth) * plain / scaling["factor"] + smooth * plain


def random_tensors(config, dtype):
    """Every tensor of a checkpoint, by the names of the family."""
    generator = np.random.default_rng(0)
    width, inner = config["hidden_size"], config["intermediate_size"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    size = config.get("head_dim") or width // heads
    shapes = {"model.embed_tokens.weight": (config["vocab_size"], width)}
    for index in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{index}."
        for name, rows in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
            shapes[f"{prefix}self_attn.{name}_proj.weight"] = (rows * size, width)
            if config["model_type"] == "qwen2":
                shapes[f"{prefix}self_attn.{name}_proj.bias"] = (rows * size,)
        shapes[f"{prefix}self_attn.o_proj.weight"] = (width, heads * size)
        shapes[f"{prefix}mlp.gate_proj.weight"] = (inner, width)
        shapes[f"{prefix}mlp.up_proj.weight"] = (inner, width)
        shapes[f"{prefix}mlp.down_proj.weight"] = (width, inner)
        shapes[f"{prefix}input_layernorm.weight"] = (width,)
        shapes[f"{prefix}post_attention_layernorm.weight"] = (width,)
    shapes["model.norm.weight"] = (width,)
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (config["vocab_size"], width)
    return {
        name: (generator.normal(0.0, 0.5, shape) + name.endswith("norm.weight")).astype(dtype)
        for name, shape in shapes.items()
    }


@pytest.fixture
def save(files, tmp_path):
    """Writes a checkpoint, in one file or in several with an index."""
    return functools.partial(save_to, tmp_path, files.write)


def save_to(directory, write, config, tensors, parts=1):
    (directory / "config.json").write_text(json.dumps(config))
    if parts == 1:
        write(directory / "model.safetensors", tensors)
        return
    places = {}
    for index in range(parts):
        file = f"model-{index + 1:05}-of-{parts:05}.safetensors"
        part = dict(list(tensors.items())[index::parts])
        write(directory / file, part)
        places |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


def blocks_and_output(config, variables):
    """Residual stream after each block, and the output, of one sequence."""
    output, state = jax.jit(
        lambda variables: Transformer(config).apply(
            variables,
            jnp.asarray(TOKENS)[None],
            capture_intermediates=lambda module, _: (module.name or "").startswith("layers_"),
        )
    )(variables)
    streams = [
        state["intermediates"][f"layers_{index}"]["__call__"][0][0][0]
        for index in range(config.num_layers)
    ]
    return streams, output


@pytest.mark.parametrize(
    ("source", "dtype", "parts"),
    [(LLAMA, np.float32, 1), (QWEN2, BFLOAT16, 3)],
    ids=["llama", "qwen2"],
)
def test_every_block_equals_numpy(tmp_path, save, source, dtype, parts):
    tensors = random_tensors(source, dtype)
    save(source, tensors, parts)
    config, variables = load_checkpoint(tmp_path)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype(np.float32)}
    streams, output = blocks_and_output(config, variables)
    expected, hidden, logits = forward(source, tensors, TOKENS)
    assert np.std(logits) > 0.5
    for found, exact in zip(streams, expected, strict=True):
        np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(output.hidden[0], hidden, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(output.logits[0], logits, rtol=1e-4, atol=2e-4)


def test_parameters_can_be_held_in_bfloat16(tmp_path, save):
    tensors = random_tensors(QWEN2, np.float16)
    save(QWEN2, tensors)
    config, variables = load_checkpoint(tmp_path, dtype="bfloat16")
    assert config.dtype == "bfloat16"
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {BFLOAT16}
    np.testing.assert_array_equal(
        variables["params"]["embedding"], tensors["model.embed_tokens.weight"].astype(BFLOAT16)
    )


def test_what_follows_from_the_rest_may_be_there(tmp_path, save):
    tensors = random_tensors(QWEN2, np.float32)
    extra = {
        "lm_head.weight": tensors["model.embed_tokens.weight"],
        "model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(2, np.float32),
        "model.rotary_emb.inv_freq": np.ones(2, np.float32),
    }
    save(QWEN2, tensors | extra)
    _, variables = load_checkpoint(tmp_path)
    assert "unembedding" not in variables["params"]
    save(QWEN2, tensors | {"lm_head.weight": 2.0 * extra["lm_head.weight"]})
    with pytest.raises(UserError, match="set tie_word_embeddings to false"):
        load_checkpoint(tmp_path)


def without(name):
    return lambda tensors: {key: value for key, value in tensors.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("model.norm.weight"), "lacks tensors: model.norm.weight; its config.json"),
        (
            lambda tensors: {name: x for name, x in tensors.items() if "layers.1" not in name},
            "lacks tensors: .* and 6 more",
        ),
        (lambda tensors: tensors | {"score.weight": np.ones(2, np.float32)}, "score.weight"),
        (
            lambda tensors: tensors | {"model.norm.weight": np.ones(11, np.float32)},
            r"tensor model.norm.weight has shape \[11\], and config.json asks for \[12\]",
        ),
        (
            lambda tensors: (
                tensors | {"model.layers.1.mlp.up_proj.weight": np.ones((12, 20), np.float32)}
            ),
            r"up_proj.weight has shape \[12, 20\], and config.json asks for \[20, 12\]",
        ),
    ],
    ids=["missing", "missing-layer", "unexpected", "vector", "matrix"],
)
def test_wrong_tensors_are_named(tmp_path, save, change, message):
    save(LLAMA, change(random_tensors(LLAMA, np.float32)))
    with pytest.raises(UserError, match=message):
        load_checkpoint(tmp_path)


def test_a_truncated_file_is_named(tmp_path, save):
    save(LLAMA, random_tensors(LLAMA, np.float32))
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(UserError, match=r"model\.safetensors is damaged"):
        load_checkpoint(tmp_path)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"config\.json: No such file"):
        load_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    with pytest.raises(
        UserError, match=r"neither model\.safetensors nor model\.safetensors\.index"
    ):
        load_checkpoint(tmp_path)
    for text, message in (("{", "is not JSON"), ("[]", "is not a JSON object")):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(UserError, match=message):
            load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda places: None, "has no weight_map"),
        (lambda places: places | {"model.norm.weight": 3}, "has no weight_map"),
        (lambda places: places | {"model.norm.weight": "../x"}, "names '../x', which is not"),
        (lambda places: dict.fromkeys(places, "x.safetensors"), r"cannot read .*x\.safetensors"),
        (lambda places: places | {"more": places["model.norm.weight"]}, "do not hold: more"),
        (without("model.norm.weight"), "does not place there: model.norm.weight"),
    ],
    ids=["none", "type", "path", "absent", "lacks", "strayed"],
)
def test_a_wrong_index_is_named(tmp_path, save, change, message):
    save(LLAMA, random_tensors(LLAMA, np.float32), parts=2)
    index = tmp_path / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"] = change(content["weight_map"])
    index.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        load_checkpoint(tmp_path)
