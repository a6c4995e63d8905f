"""Arithmetic on a stack of integers: infix expression in, postfix program out.

Source: B-Coder (arXiv 2310.03173) for classes and rewards; the language is our small domain.

Integers are int32 and wrap around: sums, differences and products are taken modulo 2^32, and
-2^31 // -1 is -2^31. Division rounds down; by 0 it is a runtime error.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from hinf_rl.language.tasks.expressions import Expression, Grammar, random_tree
from hinf_rl.language.tasks.noisy import Noise
from hinf_rl.language.tasks.postfix import PostfixTask, execute_batch, is_live
from hinf_rl.types import Array

_VARIABLES = ("a", "b", "c")
_CONSTANTS = {"1": 1, "2": 2, "3": 3}
_LEAF_COUNTS = (3, 4, 5)
_INPUT_RANGE = (-4, 7)  # both ends included
_MAX_DEPTH = 8


@dataclasses.dataclass(frozen=True)
class StackMachine(PostfixTask):
    """Expressions of 3 to 5 leaves over a, b, c and 1, 2, 3 with + - * and floor division."""

    name: ClassVar[str] = "stack_machine"
    grammar: ClassVar[Grammar] = Grammar(
        leaves=(*_VARIABLES, *_CONSTANTS),
        unary=(),
        binary={"+": 1, "-": 1, "*": 2, "/": 2},
        commutative=frozenset("+*"),
    )
    noise: ClassVar[Noise] = Noise(exchange={"+": 0.5, "*": 0.5, "-": 0.55, "/": 0.5})
    max_depth: ClassVar[int] = _MAX_DEPTH

    def draw_expression(self, generator: np.random.Generator) -> Expression:
        """Draws a tree of 3, 4 or 5 leaves."""
        return random_tree(self.grammar, int(generator.choice(_LEAF_COUNTS)), generator)

    def draw_inputs(self, generator: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        """Draws values of a, b and c, int32 [*shape, 3]."""
        size = (*shape, len(_VARIABLES))
        return generator.integers(*_INPUT_RANGE, endpoint=True, size=size, dtype=np.int32)

    def execute(self, programs: Array, inputs: Array) -> tuple[Array, Array]:
        """Runs programs [B, Lc] on values of a, b, c [B, K, 3]; outputs int32 [B, K]."""
        symbols = self.vocabulary.symbols
        codes = {symbol: symbols.index(symbol) for symbol in self.grammar.binary}
        is_leaf = jnp.asarray([arity == 0 for arity in self.arities])
        constants = jnp.asarray(list(_CONSTANTS.values()), jnp.int32)
        first_leaf = symbols.index(self.grammar.leaves[0])
        live = is_live(programs, self.vocabulary.eos_id)
        # Whatever does not compile becomes a program that does nothing; its class is known.
        tokens = jnp.where(live & (programs >= 0) & (programs < len(symbols)), programs, 0)

        def run(tokens: Array, variables: Array) -> tuple[Array, Array]:
            operands = jnp.concatenate([variables, constants])
            index = jnp.clip(tokens - first_leaf, 0, operands.size - 1)
            steps = (tokens, is_leaf[tokens], operands[index])
            start = (jnp.zeros(_MAX_DEPTH, jnp.int32), jnp.zeros((), bool))
            (stack, is_error), _ = jax.lax.scan(
                lambda c, x: (_step(codes, c, x), None), start, steps
            )
            return stack[0], is_error

        return execute_batch(run, tokens, inputs)


def _step(
    codes: dict[str, int], carry: tuple[Array, Array], step: tuple[Array, Array, Array]
) -> tuple[Array, Array]:
    """One token: the stack's top is its first entry, so that nothing is indexed by depth."""
    stack, is_error = carry
    token, is_leaf, operand = step
    right, left = stack[0], stack[1]
    is_zero = right == 0
    results = {
        "+": left + right,
        "-": left - right,
        "*": left * right,
        "/": jnp.floor_divide(left, jnp.where(is_zero, 1, right)),
    }
    pushed = jnp.concatenate([operand[None], stack[:-1]])
    result = stack
    for symbol, value in results.items():
        popped = jnp.concatenate([value[None], stack[2:], jnp.zeros(1, jnp.int32)])
        result = jnp.where(token == codes[symbol], popped, result)
    is_error |= (token == codes["/"]) & is_zero
    return jnp.where(is_leaf, pushed, result), is_error


__all__ = ["StackMachine"]
