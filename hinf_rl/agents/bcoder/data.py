"""Problems, programs with their outcomes, and what the frozen model says about each token."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from hinf_rl.language.generation import SamplingConfig, sample, teacher_force
from hinf_rl.networks.transformer import Output, Transformer
from hinf_rl.ops.bellman_tokens import advantage_of, greedy_actions
from hinf_rl.types import Array, PyTree

# Stored programs per forward pass: bounds the memory, not the result.
_CHUNK = 256


class Prompts(NamedTuple):
    """Problems.

    Attributes:
      tokens: [M, P] int32, padded on the left.
      valid: [M, P] bool.
    """

    tokens: Array
    valid: Array


class Programs(NamedTuple):
    """Programs that somebody wrote, and how they fared.

    Attributes:
      problem: [N] int32 row of the problem that each is meant for.
      tokens: [N, T] int32, padded on the right.
      mask: [N, T] bool, the tokens up to and with the end token.
      outcome: [N] float32 reward of the unit tests.
    """

    problem: Array
    tokens: Array
    mask: Array
    outcome: Array


class Annotated(NamedTuple):
    """Programs with what the frozen reference model says, which never changes.

    Attributes:
      programs: the programs.
      greedy: [N, T] int32 the reference's own choice a^ in each state.
      gap: [N, T] float32 logit of the token taken less the largest, the advantage at alpha 1.
    """

    programs: Programs
    greedy: Array
    gap: Array


class Material(NamedTuple):
    """What training starts from.

    Attributes:
      reference: variables of the pre-trained model.
      prompts: the problems.
      human: programs known to be right.
      generated: samples of the reference with their outcomes.
      tests: what the source's judge needs, of all problems; () where it judges nothing.
    """

    reference: PyTree
    prompts: Prompts
    human: Programs
    generated: Programs
    tests: PyTree = ()


class Source(Protocol):
    """Where problems, programs and outcomes come from."""

    @property
    def transformer(self) -> Transformer:
        """The architecture of the reference model."""
        ...

    @property
    def sampling(self) -> SamplingConfig:
        """How programs are drawn in training: length, end token, temperature."""
        ...

    def material(self, key: Array) -> Material:
        """Returns what training starts from; it is traced, constants are fine."""
        ...

    @property
    def judge(self) -> Callable[[PyTree, Array, Array], Array] | None:
        """`judge(tests, problem [B], tokens [B, T]) -> [B]` outcomes, traced; or None.

        Only learning from new samples needs it.
        """
        ...


def draw_programs(
    transformer: Transformer,
    settings: SamplingConfig,
    variables: PyTree,
    prompts: Prompts,
    problem: Array,
    key: Array,
) -> tuple[Array, Array]:
    """Samples one program for each entry of `problem`.

    Args:
      transformer: the architecture.
      settings: how to sample.
      variables: of the model.
      prompts: the problems.
      problem: [N] int32 rows of `prompts`.
      key: PRNG key.

    Returns:
      [N, T] tokens and their [N, T] mask.
    """
    keys = jax.random.split(key, problem.shape[0])
    tokens, valid = prompts.tokens[problem], prompts.valid[problem]
    drawn = sample(transformer, settings, variables, tokens, valid, keys)
    return drawn.tokens, drawn.mask


def annotate(
    transformer: Transformer, reference: PyTree, prompts: Prompts, programs: Programs
) -> Annotated:
    """Adds what the reference says about each token; it is run once for all of training.

    Args:
      transformer: the architecture.
      reference: variables of the frozen model.
      prompts: the problems.
      programs: [N] programs.
    """

    def one(program: Programs) -> tuple[Array, Array]:
        batch = jax.tree.map(lambda leaf: leaf[None], program)
        logits = forced_output(transformer, reference, prompts, batch).logits
        return greedy_actions(logits)[0], advantage_of(logits, batch.tokens, 1.0)[0]

    greedy, gap = jax.lax.map(one, programs, batch_size=_CHUNK)
    return Annotated(programs, greedy, gap)


def forced_output(
    transformer: Transformer, variables: PyTree, prompts: Prompts, programs: Programs
) -> Output:
    """What a model says in the state before each token of [B] programs, logits [B, T, V]."""
    return teacher_force(
        transformer,
        variables,
        prompts.tokens[programs.problem],
        prompts.valid[programs.problem],
        programs.tokens,
        programs.mask,
    )


def draw_batch(
    human: Annotated, generated: Annotated, num_human: int, batch_size: int, key: Array
) -> tuple[Annotated, Array]:
    """Draws a batch with replacement, human programs first.

    Args:
      human: programs known to be right.
      generated: samples with their outcomes.
      num_human: rows of human programs.
      batch_size: rows in all.
      key: PRNG key.

    Returns:
      the batch, and [batch_size] bool whether a row is human.
    """
    key_human, key_generated = jax.random.split(key)
    parts = [
        _rows(part, count, part_key)
        for part, count, part_key in (
            (human, num_human, key_human),
            (generated, batch_size - num_human, key_generated),
        )
        if count
    ]
    batch = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
    return batch, jnp.arange(batch_size) < num_human


def _rows(part: Annotated, count: int, key: Array) -> Annotated:
    index = jax.random.randint(key, (count,), 0, part.greedy.shape[0])
    return jax.tree.map(lambda leaf: leaf[index], part)


__all__ = [
    "Annotated",
    "Material",
    "Programs",
    "Prompts",
    "Source",
    "annotate",
    "draw_batch",
    "draw_programs",
    "forced_output",
]
