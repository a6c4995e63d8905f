"""Tasks whose programs are postfix: shared syntax check, verdict, problems and data.

A member says what its symbols do; everything else is here.
"""

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import ClassVar

import chex
import jax
import jax.numpy as jnp
import numpy as np

from hinf_rl.errors import UserError
from hinf_rl.language.tasks.api import (
    SPECIAL_SYMBOLS,
    ProblemSet,
    ResultClass,
    Verdict,
    Vocabulary,
    unit_test_reward,
)
from hinf_rl.language.tasks.expressions import Expression, Grammar
from hinf_rl.language.tasks.noisy import Noise, human_programs, noisy_programs
from hinf_rl.language.tasks.problems import draw_problem_sets
from hinf_rl.types import Array


def is_live(programs: Array, eos_id: int) -> Array:
    """Marks the tokens before the first eos, bool like `programs`, int32 [..., Lc]."""
    return jnp.cumsum((programs == eos_id).astype(jnp.int32), axis=-1) == 0


def is_well_formed(
    programs: Array, arities: Sequence[int], *, eos_id: int, max_depth: int
) -> Array:
    """Whether programs compile: no run of a machine is needed to tell.

    A program compiles if it ends, holds program symbols only, never takes more operands than
    there are, never keeps more than `max_depth` values, and leaves one.

    Args:
      programs: int32 [..., Lc]; ids outside of the vocabulary are allowed, and do not compile.
      arities: operands of each token id, -1 for one that no program may hold.
      eos_id: token that ends a program.
      max_depth: values that the stack holds.

    Returns:
      bool [...].
    """
    table = jnp.asarray(arities, jnp.int32)
    is_known = (programs >= 0) & (programs < table.size)
    arity = jnp.where(is_known, table[jnp.where(is_known, programs, 0)], -1)
    live = is_live(programs, eos_id)
    growth = jnp.where(live & (arity >= 0), 1 - arity, 0)
    depth = jnp.cumsum(growth, axis=-1)
    is_valid = (arity >= 0) & (depth - growth >= arity) & (depth <= max_depth)
    has_end = jnp.any(programs == eos_id, axis=-1)
    return has_end & jnp.all(is_valid | ~live, axis=-1) & (depth[..., -1] == 1)


@dataclasses.dataclass(frozen=True)
class PostfixTask(abc.ABC):
    """Base of the tasks here: infix problem in, postfix program out.

    Attributes:
      num_tests: K, hidden tests per problem.
    """

    num_tests: int = 8

    name: ClassVar[str]
    grammar: ClassVar[Grammar]
    noise: ClassVar[Noise]
    max_depth: ClassVar[int]
    prompt_length: ClassVar[int] = 18
    program_length: ClassVar[int] = 12

    def __post_init__(self) -> None:
        """Checks the number of tests."""
        if self.num_tests < 3:
            raise UserError(
                f"num_tests must be at least 3, the distinct outputs of a problem, "
                f"got {self.num_tests}"
            )

    @property
    def vocabulary(self) -> Vocabulary:
        """The special symbols, those of programs, and brackets, which only problems use."""
        grammar = self.grammar
        return Vocabulary(
            (*SPECIAL_SYMBOLS, *grammar.leaves, *grammar.unary, *grammar.binary, "(", ")")
        )

    @property
    def arities(self) -> tuple[int, ...]:
        """Operands of each token id; -1 where no program may hold it."""
        return tuple(self.grammar.arity(symbol) for symbol in self.vocabulary.symbols)

    @abc.abstractmethod
    def draw_expression(self, generator: np.random.Generator) -> Expression:
        """Draws one problem."""

    @abc.abstractmethod
    def draw_inputs(self, generator: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        """Draws inputs of tests, int32 [*shape, ...]."""

    @abc.abstractmethod
    def execute(self, programs: Array, inputs: Array) -> tuple[Array, Array]:
        """Runs each program on each of its inputs.

        Args:
          programs: int32 [B, Lc], meaningful only where well-formed.
          inputs: int32 [B, K, ...].

        Returns:
          int32 [B, K, ...] outputs and bool [B, K], whether a runtime error struck.
        """

    def verify(self, problems: ProblemSet, programs: Array, problem_ids: Array) -> Verdict:
        """Runs each program against the hidden tests of its problem.

        A compile error outranks a runtime error on any test, which outranks a wrong output.

        Args:
          problems: N problems; under `jit` an argument like any other.
          programs: int32 [B, Lc] without prompt.
          problem_ids: int32 [B] in [0, N).

        Returns:
          Class and reward of each program, [B].

        Raises:
          AssertionError: ranks or batch sizes differ.
        """
        chex.assert_rank([programs, problem_ids], [2, 1])
        chex.assert_equal_shape_prefix([programs, problem_ids], 1)
        programs = jnp.asarray(programs, jnp.int32)
        inputs = jnp.asarray(problems.inputs)[problem_ids]
        expected = jnp.asarray(problems.outputs)[problem_ids]
        outputs, is_error = self.execute(programs, inputs)
        is_wrong = jnp.any((outputs != expected).reshape(len(programs), -1), axis=-1)
        compiles = is_well_formed(
            programs, self.arities, eos_id=self.vocabulary.eos_id, max_depth=self.max_depth
        )
        status = jnp.where(is_wrong, int(ResultClass.FAILED_TEST), int(ResultClass.PASS))
        status = jnp.where(jnp.any(is_error, axis=-1), int(ResultClass.RUNTIME_ERROR), status)
        status = jnp.where(compiles, status, int(ResultClass.COMPILE_ERROR)).astype(jnp.int32)
        return Verdict(status, unit_test_reward(status))

    def problems(self, seed: int, counts: Sequence[int]) -> tuple[ProblemSet, ...]:
        """Draws one set of problems per count.

        No two problems, in one set or across sets, are equal up to commutation. The same seed
        and the same sum of counts give the same problems.

        Args:
          seed: of the draw, >= 0.
          counts: sizes of the sets, each >= 1.

        Raises:
          UserError: a count is not positive, or there are not that many problems.
        """
        return draw_problem_sets(self, seed, counts)

    def noisy_programs(self, problems: ProblemSet, seed: int, per_problem: int) -> np.ndarray:
        """Draws int32 [N, per_problem, Lc] programs with systematic bugs and random edits."""
        return noisy_programs(self, problems, seed, per_problem)

    def human_programs(self, problems: ProblemSet, seed: int, per_problem: int) -> np.ndarray:
        """Draws int32 [N, per_problem, Lc] correct programs: commutations of the solution.

        Those of a problem are distinct as long as there are enough; then they repeat.
        """
        return human_programs(self, problems, seed, per_problem)


def execute_batch(
    run: Callable[[Array, Array], tuple[Array, Array]], programs: Array, inputs: Array
) -> tuple[Array, Array]:
    """Maps `run(program, input)` over programs [B, ...] and their inputs [B, K, ...]."""
    return jax.vmap(jax.vmap(run, in_axes=(None, 0)))(programs, inputs)


__all__ = ["PostfixTask", "execute_batch", "is_live", "is_well_formed"]
