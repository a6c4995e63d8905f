"""Sampling with a key-value cache against sampling that computes the whole sequence each time.

python -m experiments.language.throughput [--rounds R]
"""

import argparse
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.timing import alternate, ratio, speed
from hinf_rl.language.generation import SamplingConfig, filter_logits, sample
from hinf_rl.networks import Transformer, TransformerConfig
from hinf_rl.training.files import write_json
from hinf_rl.training.provenance import provenance
from hinf_rl.types import Array, PyTree

RESULTS = Path(__file__).parent / "results" / "throughput.json"

# Model, sequences, prompt slots, new tokens. "program" is the size of the expression programs.
CASES: dict[str, tuple[TransformerConfig, int, int, int]] = {
    "program": (TransformerConfig(vocab_size=16, positions="learned", max_length=32), 256, 18, 12),
    "long": (
        TransformerConfig(
            vocab_size=512, num_layers=4, hidden_size=128, num_kv_heads=2, ff_size=384,
            max_length=256,
        ),
        32, 64, 128,
    ),
}  # fmt: skip


@functools.partial(jax.jit, static_argnums=(0, 1))
def sample_plainly(
    transformer: Transformer,
    settings: SamplingConfig,
    variables: PyTree,
    prompts: Array,
    keys: Array,
) -> Array:
    """Draws the tokens that `sample` draws, by one pass over all slots per token, in one scan.

    Without a stop token and without padding, so that both sides do the work of full responses.
    """
    start = prompts.shape[1]
    empty = jnp.zeros((len(prompts), settings.max_new_tokens), jnp.int32)

    def body(tokens: Array, step: Array) -> tuple[Array, None]:
        logits = transformer.apply(variables, tokens).logits
        now = jax.lax.dynamic_index_in_dim(logits, start + step - 1, axis=1, keepdims=False)
        drawn = jax.vmap(
            lambda key, row: jax.random.categorical(jax.random.fold_in(key, step), row)
        )
        token = drawn(keys, filter_logits(now, settings)).astype(jnp.int32)
        return tokens.at[:, start + step].set(token), None

    tokens = jnp.concatenate([prompts, empty], axis=1)
    steps = jnp.arange(settings.max_new_tokens, dtype=jnp.int32)
    return jax.lax.scan(body, tokens, steps)[0][:, start:]


def measure(name: str, rounds: int) -> dict[str, Any]:
    """One case: both sides in turns, on the same prompts and keys."""
    config, batch, slots, new = CASES[name]
    transformer = Transformer(config)
    settings = SamplingConfig(max_new_tokens=new, stop_ids=())
    key_init, key_prompt, key_sample = jax.random.split(jax.random.key(0), 3)
    prompts = jax.random.randint(key_prompt, (batch, slots), 0, config.vocab_size, jnp.int32)
    variables = jax.jit(transformer.init)(key_init, prompts)
    keys = jax.random.split(key_sample, batch)
    valid = jnp.ones(prompts.shape, jnp.bool_)
    drawn: dict[str, Array] = {}

    def cached() -> None:
        found = sample(transformer, settings, variables, prompts, valid, keys)
        drawn["cached"] = jax.block_until_ready(found).tokens

    def plain() -> None:
        found = sample_plainly(transformer, settings, variables, prompts, keys)
        drawn["plain"] = jax.block_until_ready(found)

    seconds = alternate({"cached": cached, "plain": plain}, rounds)
    equal = np.asarray(drawn["cached"]) == np.asarray(drawn["plain"])
    return {
        "config": {"sequences": batch, "prompt_slots": slots, "new_tokens": new}
        | {
            field: getattr(config, field)
            for field in ("vocab_size", "num_layers", "hidden_size", "num_heads", "kv_heads")
        },
        "seconds": seconds,
        "tokens_per_s": {side: speed(taken, batch * new) for side, taken in seconds.items()},
        "cached_over_plain": ratio(seconds["plain"], seconds["cached"]),
        # A near tie may go the other way, and then the rest of the sequence differs.
        "equal_sequences": float(equal.all(axis=1).mean()),
    }


def main() -> None:
    """Measures every case and writes one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cases", nargs="+", choices=sorted(CASES), default=list(CASES))
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    found = {}
    for name in options.cases:
        found[name] = measure(name, options.rounds)
        shown = {key: value for key, value in found[name].items() if key != "seconds"}
        print(f"{name}: {shown}", flush=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.output, {"provenance": provenance(), "cases": found})


if __name__ == "__main__":
    main()
