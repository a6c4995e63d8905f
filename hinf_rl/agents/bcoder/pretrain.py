"""Pre-training of the reference model: cross-entropy on programs that may be wrong."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from hinf_rl.agents.bcoder.data import Programs, Prompts, forced_output
from hinf_rl.agents.bcoder.optimizer import AdamW
from hinf_rl.networks.transformer import Transformer
from hinf_rl.ops.bellman_losses import cross_entropy_loss
from hinf_rl.ops.surrogate import masked_mean
from hinf_rl.types import Array, PyTree

_WEIGHT_DECAY = 1e-4


class Corpus(NamedTuple):
    """Problems and programs of them.

    Attributes:
      prompts: the problems.
      programs: [N] programs; their outcomes are not looked at.
    """

    prompts: Prompts
    programs: Programs


def pretrain(
    transformer: Transformer,
    corpus: Corpus,
    key: Array,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
) -> tuple[PyTree, Array]:
    """Trains a language model from nothing with AdamW and a cosine schedule; traced.

    Args:
      transformer: the architecture.
      corpus: what to imitate.
      key: PRNG key.
      steps: gradient steps.
      batch_size: programs per step, drawn with replacement.
      learning_rate: of the first step; it falls to 0 along a cosine.

    Returns:
      variables, and the [steps] losses in nats per token.
    """
    key_init, key_batches = jax.random.split(key)
    optimizer = AdamW(_WEIGHT_DECAY)
    variables = transformer.init(key_init, corpus.prompts.tokens[:1])

    def loss(variables: PyTree, programs: Programs) -> Array:
        logits = forced_output(transformer, variables, corpus.prompts, programs).logits
        return masked_mean(cross_entropy_loss(logits, programs.tokens), programs.mask)

    def step(
        state: tuple[PyTree, PyTree], now: tuple[Array, Array]
    ) -> tuple[tuple[PyTree, PyTree], Array]:
        (variables, moments), (key, rate) = state, now
        rows = jax.random.randint(key, (batch_size,), 0, corpus.programs.mask.shape[0])
        batch = jax.tree.map(lambda leaf: leaf[rows], corpus.programs)
        value, gradient = jax.value_and_grad(loss)(variables, batch)
        updated = optimizer.update(variables, moments, gradient, rate)
        return (updated.params, updated.state), value

    done = jnp.linspace(0.0, 1.0, steps, endpoint=False)
    rates = 0.5 * learning_rate * (1.0 + jnp.cos(jnp.pi * done))
    keys = jax.random.split(key_batches, steps)
    start = (variables, optimizer.init(variables))
    (variables, _), losses = jax.lax.scan(step, start, (keys, rates))
    return variables, losses


__all__ = ["Corpus", "pretrain"]
