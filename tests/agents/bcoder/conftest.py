"""A tiny language model and a handful of programs: the agent's protocol without any task."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from hinf_rl.agents.bcoder import BCoderConfig, Material, Programs, Prompts
from hinf_rl.language.generation import SamplingConfig
from hinf_rl.networks.transformer import Transformer
from hinf_rl.networks.transformer_config import TransformerConfig
from hinf_rl.ops.bellman_tokens import completion_mask

VOCABULARY, PROMPT, LENGTH, EOS = 8, 3, 4, 3
PROBLEMS = 5


@dataclasses.dataclass(frozen=True)
class ToySource:
    """Five prompts; a program is right if its first token is 4 plus the problem's parity."""

    is_judged: bool = True

    @property
    def transformer(self):
        return Transformer(
            TransformerConfig(
                vocab_size=VOCABULARY,
                num_layers=1,
                hidden_size=16,
                num_heads=2,
                ff_size=16,
                max_length=PROMPT + LENGTH,
            )
        )

    @property
    def sampling(self):
        return SamplingConfig(max_new_tokens=LENGTH, stop_ids=(EOS,))

    @property
    def judge(self):
        return judge if self.is_judged else None

    def material(self, key):
        reference = self.transformer.init(key, jnp.zeros((1, 1), jnp.int32))
        # A fresh model is nearly uniform; larger embeddings take its greedy choices off the ties.
        params = reference["params"]
        reference = {"params": {**params, "embedding": 20.0 * params["embedding"]}}
        human = np.array([[4 + p % 2, 6, EOS, 0] for p in range(PROBLEMS)], np.int32)
        draw = np.random.default_rng(1)
        drawn = draw.integers(EOS, VOCABULARY, (24, LENGTH)).astype(np.int32)
        problem = draw.integers(0, PROBLEMS, 24).astype(np.int32)
        return Material(
            reference, prompts(), programs(np.arange(PROBLEMS), human), programs(problem, drawn)
        )


def prompts():
    tokens = np.array([[1, 4 + p % 2, 5 + p % 3] for p in range(PROBLEMS)], np.int32)
    valid = np.ones_like(tokens, bool)
    valid[0, 0] = False
    return Prompts(jnp.asarray(tokens), jnp.asarray(valid))


def programs(problem, tokens):
    tokens, problem = jnp.asarray(tokens), jnp.asarray(problem, jnp.int32)
    mask = completion_mask(tokens, EOS)
    tokens = jnp.where(mask, tokens, 0)
    return Programs(problem, tokens, mask, judge((), problem, tokens))


def judge(tests, problem, tokens):
    return jnp.where(tokens[:, 0] == 4 + problem % 2, 1.0, -0.3)


@pytest.fixture(scope="session")
def source():
    return ToySource()


@pytest.fixture(scope="session")
def config():
    return BCoderConfig(iterations=8, value_fraction=0.5, batch_size=8, learning_rate=1e-2)
