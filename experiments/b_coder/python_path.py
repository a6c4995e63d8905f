"""The real path, end to end and small: a checkpoint on disk, Python programs, a sandbox.

Usage: python -m experiments.b_coder.python_path [--output FILE]

1. A tiny language model is pre-trained on wrong programs and written as config.json and
   model.safetensors of the Llama layout; from there on it is an imported checkpoint.
2. It is sampled, and its programs are run in the sandbox.
3. Both stages of B-Coder train on the samples and on the exercises' own solutions.
4. Its own new programs are ranked, and run in the sandbox to see whether the ranking was right.
"""

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.b_coder import toy_python
from hinf_rl.agents.bcoder import (
    BCoderConfig,
    Corpus,
    Material,
    Programs,
    Prompts,
    draw_programs,
    make,
    make_scores,
    pretrain,
    rank_programs,
)
from hinf_rl.agents.bcoder.evaluate import (
    draw_candidates,
    ranker_report,
    sampler_report,
    score_candidates,
)
from hinf_rl.language.checkpoint_import import load_checkpoint
from hinf_rl.language.generation import SamplingConfig
from hinf_rl.language.tasks.apps import AppsProblem, load_problems
from hinf_rl.language.tasks.grading import Submission, grade
from hinf_rl.language.tasks.sandbox import Sandbox
from hinf_rl.language.tokenizer import left_pad, right_pad
from hinf_rl.networks.transformer import Transformer
from hinf_rl.networks.transformer_config import TransformerConfig
from hinf_rl.training.files import write_json
from hinf_rl.training.loop import train
from hinf_rl.training.provenance import provenance
from hinf_rl.types import Array, PyTree

RESULTS = Path(__file__).parent / "results" / "python_path.json"
PROGRAM_LENGTH = 56
SAMPLES, CANDIDATES = 6, 6
TRAINED, UNSEEN = 32, 12
AGENT = BCoderConfig(iterations=150, value_fraction=0.4, batch_size=32)


class CharacterTokenizer:
    """One id per character, after padding and the end token."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._characters = sorted(set("".join(texts)))
        self._ids = {character: i + 3 for i, character in enumerate(self._characters)}
        self.pad_id, self.bos_id, self.eos_id = 0, 1, 2

    @property
    def vocab_size(self) -> int:
        return len(self._characters) + 3

    def encode(self, text: str) -> list[int]:
        return [self._ids[character] for character in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self._characters[i - 3] for i in ids if i >= 3)


@dataclasses.dataclass(frozen=True)
class PythonSource:
    """Samples that were run on the host; nothing can be judged inside the compiled step."""

    transformer: Transformer
    sampling: SamplingConfig
    stored: Material
    judge: None = None

    def material(self, key: Array) -> Material:
        return self.stored


class Exercises:
    """Problems as tokens, and programs judged by the sandbox."""

    def __init__(self, problems: Sequence[AppsProblem], tokenizer: CharacterTokenizer) -> None:
        self.problems, self._tokenizer = list(problems), tokenizer

    @property
    def prompts(self) -> Prompts:
        rows = [self._prompt(problem.question) for problem in self.problems]
        tokens, valid = left_pad(rows, pad_id=self._tokenizer.pad_id)
        return Prompts(jnp.asarray(tokens), jnp.asarray(valid))

    def programs(self, problem: Sequence[int], texts: Sequence[str], reward: float) -> Programs:
        """Given texts as programs that earn the same."""
        rows = [[*self._tokenizer.encode(text), self._tokenizer.eos_id] for text in texts]
        tokens, mask = right_pad(rows, pad_id=self._tokenizer.pad_id, length=PROGRAM_LENGTH)
        return Programs(
            jnp.asarray(problem, jnp.int32),
            jnp.asarray(tokens),
            jnp.asarray(mask),
            jnp.full(len(rows), reward, jnp.float32),
        )

    def judge(self, problem: Array, tokens: Array) -> np.ndarray:
        """[B] rewards; a program without an end token does not compile, whatever it says."""
        is_ended = np.any(np.asarray(tokens) == self._tokenizer.eos_id, axis=-1)
        texts = [self._tokenizer.decode(row) for row in np.asarray(tokens).tolist()]
        submissions = [
            Submission(self.problems[int(index)], text)
            for index, text in zip(problem, texts, strict=True)
        ]
        grades = grade(submissions, Sandbox())
        rewards = np.float32([one.reward for one in grades])
        return np.where(is_ended, rewards, np.float32(-1.0))

    def human(self) -> Programs:
        """The exercises' own solutions."""
        pairs = [(i, text) for i, one in enumerate(self.problems) for text in one.solutions]
        return self.programs([i for i, _ in pairs], [text for _, text in pairs], 1.0)

    def _prompt(self, question: str) -> list[int]:
        return [self._tokenizer.bos_id, *self._tokenizer.encode(question + "\n")]


def export_checkpoint(folder: Path, config: TransformerConfig, variables: PyTree) -> None:
    """Writes a checkpoint in the published layout: config.json and model.safetensors."""
    folder.mkdir(parents=True)
    params = jax.device_get(variables["params"])
    tensors = {
        "model.embed_tokens.weight": params["embedding"],
        "model.norm.weight": params["final_norm"]["scale"],
    }
    for i in range(config.num_layers):
        layer, prefix = params[f"layers_{i}"], f"model.layers.{i}"
        tensors[f"{prefix}.input_layernorm.weight"] = layer["attention_norm"]["scale"]
        tensors[f"{prefix}.post_attention_layernorm.weight"] = layer["feed_forward_norm"]["scale"]
        for theirs, ours in zip("qkvo", ("query", "key", "value", "output"), strict=True):
            kernel = layer["attention"][ours]["kernel"]
            tensors[f"{prefix}.self_attn.{theirs}_proj.weight"] = kernel.T
        for name in ("gate", "up", "down"):
            tensors[f"{prefix}.mlp.{name}_proj.weight"] = layer["feed_forward"][name]["kernel"].T
    settings = {
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.ff_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.kv_heads,
        "max_position_embeddings": config.max_length,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "tie_word_embeddings": config.tie_embeddings,
        "hidden_act": "silu",
    }
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    _write_safetensors(folder / "model.safetensors", tensors)


def _write_safetensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """The format: length of the header, the header, the tensors' bytes in its order."""
    header, blocks, offset = {}, [], 0
    for name, tensor in tensors.items():
        block = np.ascontiguousarray(tensor, "<f4").tobytes()
        ends = [offset, offset + len(block)]
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": ends}
        blocks.append(block)
        offset += len(block)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(blocks))


def make_checkpoint(
    folder: Path, chosen: list[tuple[str, str]], tokenizer: CharacterTokenizer, steps: int
) -> None:
    """Pre-trains on buggy programs of some exercises and writes the model to disk."""
    draw = np.random.default_rng(0)
    rows, texts, prompts = [], [], []
    for i, (question, expression) in enumerate(chosen):
        prompts.append([tokenizer.bos_id, *tokenizer.encode(question + "\n")])
        for _ in range(12):
            rows.append(i)
            texts.append(toy_python.noisy_program(expression, draw))
    prompt_tokens, valid = left_pad(prompts, pad_id=tokenizer.pad_id)
    programs = Exercises([], tokenizer).programs(rows, texts, 0.0)
    corpus = Corpus(Prompts(jnp.asarray(prompt_tokens), jnp.asarray(valid)), programs)
    config = TransformerConfig(
        vocab_size=tokenizer.vocab_size, num_layers=2, hidden_size=48, num_heads=4, ff_size=96,
        max_length=128,
    )  # fmt: skip

    def run(corpus: Corpus, key: Array) -> tuple[PyTree, Array]:
        return pretrain(
            Transformer(config), corpus, key, steps=steps, batch_size=32, learning_rate=3e-3
        )

    variables, losses = jax.jit(run)(corpus, jax.random.key(0))
    print(f"checkpoint: {float(losses[-1]):.3f} nats per character", flush=True)
    export_checkpoint(folder, config, variables)


def play(folder: Path, pretrain_steps: int) -> dict[str, Any]:
    """Runs the whole path; returns what is written."""
    start_s = time.perf_counter()
    chosen = toy_python.exercises()
    tokenizer = CharacterTokenizer(
        [question + "\n" + toy_python.program(text) for question, text in chosen]
    )
    shuffled = [chosen[i] for i in np.random.default_rng(1).permutation(len(chosen))]
    toy_python.write_problems(folder / "problems", shuffled[: UNSEEN + TRAINED], seed=2)
    problems = load_problems(folder / "problems")
    unseen, trained = (
        Exercises(part, tokenizer) for part in (problems[:UNSEEN], problems[UNSEEN:])
    )
    make_checkpoint(folder / "model", shuffled[UNSEEN:], tokenizer, pretrain_steps)
    config, reference = load_checkpoint(folder / "model")
    transformer = Transformer(config)
    settings = SamplingConfig(
        max_new_tokens=PROGRAM_LENGTH, stop_ids=(tokenizer.eos_id,), pad_id=tokenizer.pad_id
    )
    key_samples, key_agent, key_before, key_after = jax.random.split(jax.random.key(3), 4)
    problem = jnp.repeat(jnp.arange(TRAINED, dtype=jnp.int32), SAMPLES)
    tokens, mask = draw_programs(
        transformer, settings, reference, trained.prompts, problem, key_samples
    )
    sandbox_start_s = time.perf_counter()
    outcome = jnp.asarray(trained.judge(problem, tokens))
    sandbox_s = time.perf_counter() - sandbox_start_s
    material = Material(
        reference, trained.prompts, trained.human(), Programs(problem, tokens, mask, outcome)
    )
    algorithm = make(AGENT, PythonSource(transformer, settings, material))
    result = train(algorithm, iterations=AGENT.iterations, keys=key_agent, log_every=30)
    carry = result.carry
    before, after = (
        draw_candidates(
            transformer, settings, variables, unseen.prompts, CANDIDATES, key, unseen.judge
        )
        for variables, key in ((reference, key_before), (carry.policy.transformer, key_after))
    )
    scores = score_candidates(
        jax.jit(make_scores(AGENT, transformer)), carry, unseen.prompts, after
    )
    best = rank_programs(scores["reward"], after.tokens, 2)
    return {
        "reference": sampler_report(before),
        "policy": sampler_report(after),
        "rankers": ranker_report(scores, after),
        "examples": [
            {
                "question": unseen.problems[i].question,
                "ranked": [
                    {
                        "program": tokenizer.decode(after.tokens[i, j].tolist()),
                        "recovered_reward": round(float(scores["reward"][i, j]), 4),
                        "outcome": round(float(after.outcome[i, j]), 2),
                    }
                    for j in best[i]
                ],
            }
            for i in range(4)
        ],
        "sandboxed_programs": int(problem.size + before.outcome.size + after.outcome.size),
        "sandbox_s_per_program": round(sandbox_s / problem.size, 3),
        "wall_s": round(time.perf_counter() - start_s, 1),
        "provenance": provenance(),
    }


def main() -> None:
    """Runs the path in a temporary folder and writes one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--pretrain-steps", type=int, default=1200)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = play(Path(folder), arguments.pretrain_steps)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    write_json(arguments.output, results)
    print(f"pass@1 {results['reference']['pass@1']:.3f} -> {results['policy']['pass@1']:.3f}")


if __name__ == "__main__":
    main()
