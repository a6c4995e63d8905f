"""What config.json is taken to mean, and what is refused."""

import pytest

from hinf_rl.errors import UserError
from hinf_rl.language.checkpoint_config import transformer_config

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
    "max_position_embeddings": 32,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
}


def test_fields_find_their_place():
    llama, qwen2 = transformer_config(LLAMA), transformer_config(QWEN2)
    assert (llama.vocab_size, llama.hidden_size, llama.ff_size, llama.num_layers) == (19, 12, 20, 2)
    assert (llama.num_heads, llama.kv_heads, llama.head_size) == (3, 1, 8)
    assert (llama.max_length, llama.norm_eps) == (64, 1e-3)
    assert (llama.tie_embeddings, llama.qkv_bias, llama.positions) == (False, False, "rope")
    # Absent: as many key-value heads as heads, their width by division, theta 10000.
    assert (qwen2.kv_heads, qwen2.head_size, qwen2.rope_theta) == (4, 4, 10_000.0)
    assert (qwen2.tie_embeddings, qwen2.qkv_bias) == (True, True)


def test_both_ways_to_write_rotary_settings_are_read():
    old = transformer_config(LLAMA)
    scaling = LLAMA["rope_scaling"] | {"rope_theta": 50.0}
    rest = {name: x for name, x in LLAMA.items() if name not in ("rope_theta", "rope_scaling")}
    assert transformer_config(rest | {"rope_parameters": scaling}) == old
    assert old.rope_scaling is not None
    assert old.rope_theta == 50.0
    plain = transformer_config(rest | {"rope_scaling": None})
    assert plain.rope_scaling is None
    assert plain.rope_theta == 10_000.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mamba"}, r"unknown model_type 'mamba'.* \(known: llama, qwen2\)"),
        ({"model_type": None}, "unknown model_type 'None'"),
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu'; only 'silu' is supported"),
        ({"attention_bias": True}, "attention_bias = True"),
        ({"quantization_config": {"bits": 4}}, "quantization_config = {'bits': 4}"),
        ({"layer_types": ["sliding_attention"]}, "layers of type sliding_attention"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "unknown rope_type 'linear'"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "needs factor as a number, got None"),
        ({"vocab_size": None}, "needs vocab_size as a whole number, got None"),
        ({"num_hidden_layers": "2"}, "needs num_hidden_layers as a whole number, got '2'"),
        ({"rms_norm_eps": True}, "needs rms_norm_eps as a number, got True"),
        ({"num_key_value_heads": 2}, "num_kv_heads = 2 does not divide num_heads = 3"),
    ],
)
def test_what_cannot_be_computed_is_named(changes, message):
    with pytest.raises(UserError, match=message):
        transformer_config(LLAMA | changes)
