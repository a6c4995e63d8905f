"""Imported checkpoints against the package that publishes the families, on random tiny models.

Needs torch and transformers beside this package:
python -m experiments.language.reference_parity
"""

import argparse
import copy
import importlib.metadata
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers

from hinf_rl.language.checkpoint_import import load_checkpoint
from hinf_rl.language.generation import SamplingConfig, sample
from hinf_rl.networks import Transformer
from hinf_rl.training.files import write_json
from hinf_rl.training.provenance import provenance

RESULTS = Path(__file__).parent / "results" / "reference_parity.json"
# Fixed beforehand: largest difference, as a share of the standard deviation of the reference.
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1}

_SIZES = {
    "vocab_size": 101,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    # Larger than usual, so that no part of the network is near linear.
    "initializer_range": 0.2,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}
_STRETCHED = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
# Family, what differs from the sizes above, dtype of the file and of the computation.
CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "llama": ("Llama", {"head_dim": 16, "tie_word_embeddings": False}, "float32"),
    "llama, stretched positions": (
        "Llama", {"rope_parameters": _STRETCHED, "tie_word_embeddings": True}, "float32",
    ),
    "qwen2, in parts": ("Qwen2", {"tie_word_embeddings": False}, "float32"),
    "qwen2, tied": ("Qwen2", {"tie_word_embeddings": True}, "float32"),
    "qwen2, bfloat16": ("Qwen2", {"tie_word_embeddings": True}, "bfloat16"),
}  # fmt: skip
_LENGTH, _NEW = 40, 24


def reference_model(family: str, changes: Mapping[str, Any], dtype: str) -> Any:
    """A random model of the family, biases and norms random as well."""
    config = getattr(transformers, f"{family}Config")(**{**_SIZES, **changes})
    torch.manual_seed(0)
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model.to(getattr(torch, dtype))


def batch() -> tuple[np.ndarray, np.ndarray]:
    """Left-padded tokens and their mask."""
    tokens = np.random.default_rng(0).integers(1, _SIZES["vocab_size"], (3, _LENGTH))
    valid = np.arange(_LENGTH)[None] >= np.array([0, 5, 17])[:, None]
    return np.where(valid, tokens, 0).astype(np.int32), valid


def error(found: Any, exact: Any, valid: np.ndarray) -> float:
    """Largest difference over real tokens, as a share of the reference's standard deviation."""
    exact = exact.detach().to(torch.float32).numpy()[valid]
    return float(np.abs(np.asarray(found, np.float32)[valid] - exact).max() / exact.std())


def compare(family: str, changes: Mapping[str, Any], dtype: str, parts: bool) -> dict[str, Any]:
    """Saves the reference model, imports it, and compares each block, logits and greedy text."""
    model = reference_model(family, changes, dtype)
    tokens, valid = batch()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, max_shard_size="60KB" if parts else "1GB")
        files = len(list(Path(folder).glob("*.safetensors")))
        config, variables = load_checkpoint(folder, dtype=dtype)
    output, state = Transformer(config).apply(
        variables, jnp.asarray(tokens), jnp.asarray(valid),
        capture_intermediates=lambda module, _: (module.name or "").startswith("layers_"),
    )  # fmt: skip
    inputs = {
        "input_ids": torch.tensor(tokens).long(),
        "attention_mask": torch.tensor(valid).long(),
    }
    positions = torch.tensor(np.maximum(np.cumsum(valid, axis=1) - 1, 0))
    with torch.no_grad():
        expected = model(**inputs, position_ids=positions, output_hidden_states=True)
        wide = copy.deepcopy(model).float()(**inputs, position_ids=positions).logits
        text = model.generate(**inputs, do_sample=False, max_new_tokens=_NEW)[:, _LENGTH:]
    streams = [
        state["intermediates"][f"layers_{index}"]["__call__"][0][0]
        for index in range(config.num_layers)
    ]
    # The reference lists the embedding first, and the last block's stream only after the norm.
    blocks = [
        error(found, exact, valid)
        for found, exact in zip(streams[:-1], expected.hidden_states[1:-1], strict=True)
    ]
    greedy = SamplingConfig(max_new_tokens=_NEW, stop_ids=(), temperature=0.0)
    drawn = sample(
        Transformer(config), greedy, variables, jnp.asarray(tokens), jnp.asarray(valid),
        jax.random.split(jax.random.key(0), len(tokens)),
    )  # fmt: skip
    return {
        "family": family,
        "dtype": dtype,
        "files": files,
        "error_of_blocks": blocks,
        "error_of_hidden": error(output.hidden, expected.hidden_states[-1], valid),
        "error_of_logits": error(output.logits, expected.logits, valid),
        "tolerance": TOLERANCE[dtype],
        # Both against the reference computed in float32: what rounding costs either side.
        "rounding_of_logits": {
            "ours": error(output.logits, wide, valid),
            "reference": error(expected.logits.float(), wide, valid),
        },
        "equal_greedy_tokens": float((np.asarray(drawn.tokens) == text.numpy()).mean()),
    }


def is_met(found: Mapping[str, Any]) -> bool:
    """Whether all errors are within tolerance and, in float32, greedy text is the same."""
    errors = [*found["error_of_blocks"], found["error_of_hidden"], found["error_of_logits"]]
    is_same = found["equal_greedy_tokens"] == 1.0 or found["dtype"] == "bfloat16"
    return max(errors) <= found["tolerance"] and is_same


def main() -> None:
    """Compares every case and writes one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    cases = {}
    for name, (family, changes, dtype) in CASES.items():
        found = compare(family, changes, dtype, parts="parts" in name)
        cases[name] = {**found, "met": is_met(found)}
        print(f"{name}: {cases[name]}", flush=True)
    source = provenance()
    for package in ("torch", "transformers", "safetensors"):
        source["versions"][package] = importlib.metadata.version(package)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.output, {"provenance": source, "cases": cases})


if __name__ == "__main__":
    main()
