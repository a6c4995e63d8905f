"""Draws problems with hidden tests, so that no two are equal up to commutation."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np

from hinf_rl.errors import UserError
from hinf_rl.language.tasks.api import ProblemSet
from hinf_rl.language.tasks.expressions import Expression, canonical, infix, postfix
from hinf_rl.types import Array

if TYPE_CHECKING:
    from hinf_rl.language.tasks.postfix import PostfixTask

MIN_DISTINCT_OUTPUTS = 3
"""A problem whose tests give fewer could be passed by a program that ignores its inputs."""
_CHUNK = 512  # candidates that are run at once; always as many, so that one program is compiled
_POOL = 3  # inputs drawn per test, of which the first without an error are kept
_MAX_IDLE_CHUNKS = 20  # chunks without a new problem, after which there are none left


def draw_problem_sets(
    task: "PostfixTask", seed: int, counts: Sequence[int]
) -> tuple[ProblemSet, ...]:
    """Draws `counts[i]` problems for each i; see `PostfixTask.problems`."""
    if not counts or any(count < 1 for count in counts):
        raise UserError(f"counts must be positive numbers of problems, got {list(counts)}")
    drawn = _draw(task, seeded_generator(seed, "problems"), sum(counts))
    ends = np.cumsum(counts)
    return tuple(
        ProblemSet(*(array[end - count : end] for array in drawn))
        for count, end in zip(counts, ends, strict=True)
    )


def seeded_generator(seed: int, purpose: str) -> np.random.Generator:
    """A generator for one purpose: equal seeds of two purposes share no draws.

    Raises:
      UserError: the seed is negative.
    """
    if seed < 0:
        raise UserError(f"seed must be at least 0, got {seed}")
    return np.random.default_rng([seed, *purpose.encode()])


def pad_program(task: "PostfixTask", tokens: Sequence[int]) -> np.ndarray:
    """Puts eos and padding behind `tokens`; int32 [Lc].

    Raises:
      UserError: there is no room for the eos.
    """
    if len(tokens) >= task.program_length:
        raise UserError(
            f"a program of {len(tokens)} tokens and its eos do not fit program_length = "
            f"{task.program_length}"
        )
    padded = np.full(task.program_length, task.vocabulary.pad_id, np.int32)
    padded[: len(tokens)] = tokens
    padded[len(tokens)] = task.vocabulary.eos_id
    return padded


def _draw(task: "PostfixTask", generator: np.random.Generator, total: int) -> ProblemSet:
    seen: set[Expression] = set()
    rows: list[tuple[np.ndarray, ...]] = []
    idle = 0
    while len(rows) < total:
        expressions = [task.draw_expression(generator) for _ in range(_CHUNK)]
        programs = np.stack([expression_program(task, tree) for tree in expressions])
        inputs = task.draw_inputs(generator, (_CHUNK, _POOL * task.num_tests))
        outputs, is_error = (np.asarray(array) for array in _execute(task, programs, inputs))
        before = len(rows)
        for row, expression in enumerate(expressions):
            key = canonical(task.grammar, expression)
            tests = np.flatnonzero(~is_error[row])[: task.num_tests]
            if key in seen or not _is_telling(outputs[row, tests], task.num_tests):
                continue
            seen.add(key)
            prompt = _prompt(task, expression)
            rows.append((prompt, programs[row], inputs[row, tests], outputs[row, tests]))
        idle = idle + 1 if len(rows) == before else 0
        if idle == _MAX_IDLE_CHUNKS:
            raise UserError(
                f"counts ask for {total} problems, but {task.name} seems to have no more than "
                f"{len(rows)} that differ; ask for fewer"
            )
    return ProblemSet(*(np.stack(column) for column in zip(*rows[:total], strict=True)))


@functools.partial(jax.jit, static_argnums=0)
def _execute(task: "PostfixTask", programs: Array, inputs: Array) -> tuple[Array, Array]:
    """Compiled once per task, however often problems are drawn."""
    return task.execute(programs, inputs)


def expression_program(task: "PostfixTask", expression: Expression) -> np.ndarray:
    """The padded program of an expression, int32 [Lc]."""
    return pad_program(task, task.vocabulary.encode(postfix(expression)))


def _prompt(task: "PostfixTask", expression: Expression) -> np.ndarray:
    vocabulary = task.vocabulary
    words = vocabulary.encode(infix(task.grammar, expression))
    tokens = [vocabulary.bos_id, *words, vocabulary.sep_id]
    padded = np.full(task.prompt_length, vocabulary.pad_id, np.int32)
    padded[task.prompt_length - len(tokens) :] = tokens
    return padded


def _is_telling(outputs: np.ndarray, num_tests: int) -> bool:
    """Whether there are enough tests, and outputs that differ."""
    distinct = {output.tobytes() for output in outputs}
    return len(outputs) == num_tests and len(distinct) >= MIN_DISTINCT_OUTPUTS


__all__ = [
    "MIN_DISTINCT_OUTPUTS",
    "draw_problem_sets",
    "expression_program",
    "pad_program",
    "seeded_generator",
]
