"""Lists of integers on a stack: a second domain, which no setting was chosen on.

Unary symbols stand before their operand and bind tightest; `add` and `cat` stand between theirs
and associate to the left. A program is the postfix form. `rev` turns a list round, `sort` orders
it upwards, `tail` drops its first item, `inc` adds 1 and `dbl` doubles each item, `sums` gives
running sums, `add` adds item by item up to the end of the shorter list, `cat` joins two lists.
Items are int32 and wrap around. `tail` of an empty list, and a list longer than 8, are runtime
errors.

A list is packed as int32 [9]: its length, then its items, then zeros.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from hinf_rl.language.tasks.expressions import Expression, Grammar, add_unary, random_tree
from hinf_rl.language.tasks.noisy import Noise
from hinf_rl.language.tasks.postfix import PostfixTask, execute_batch, is_live
from hinf_rl.types import Array

LIST_CAPACITY = 8
"""Most items of a list."""
_VARIABLES = ("x", "y")
_LEAF_COUNTS = (2, 3)
_UNARY_COUNTS = (1, 4)  # both ends included
_LENGTH_RANGE = (1, 5)
_ITEM_RANGE = (-4, 7)
_MAX_DEPTH = 4


@dataclasses.dataclass(frozen=True)
class ListMachine(PostfixTask):
    """Expressions of 2 or 3 lists with 1 to 4 unary symbols."""

    name: ClassVar[str] = "list_machine"
    grammar: ClassVar[Grammar] = Grammar(
        leaves=_VARIABLES,
        unary=("rev", "sort", "tail", "inc", "dbl", "sums"),
        binary={"add": 1, "cat": 1},
        commutative=frozenset({"add"}),
    )
    noise: ClassVar[Noise] = Noise(exchange={"add": 0.5, "cat": 0.55}, exchange_nested=0.5)
    max_depth: ClassVar[int] = _MAX_DEPTH

    def draw_expression(self, generator: np.random.Generator) -> Expression:
        """Draws a tree of 2 or 3 leaves and puts 1 to 4 unary symbols into it."""
        tree = random_tree(self.grammar, int(generator.choice(_LEAF_COUNTS)), generator)
        count = int(generator.integers(*_UNARY_COUNTS, endpoint=True))
        return add_unary(self.grammar, tree, count, generator)

    def draw_inputs(self, generator: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        """Draws lists x and y, packed int32 [*shape, 2, 9]."""
        size = (*shape, len(_VARIABLES))
        lengths = generator.integers(*_LENGTH_RANGE, endpoint=True, size=size, dtype=np.int32)
        items = generator.integers(
            *_ITEM_RANGE, endpoint=True, size=(*size, LIST_CAPACITY), dtype=np.int32
        )
        items = np.where(np.arange(LIST_CAPACITY) < lengths[..., None], items, 0)
        return np.concatenate([lengths[..., None], items], axis=-1).astype(np.int32)

    def execute(self, programs: Array, inputs: Array) -> tuple[Array, Array]:
        """Runs programs [B, Lc] on packed lists [B, K, 2, 9]; outputs packed [B, K, 9]."""
        symbols = self.vocabulary.symbols
        codes = {symbol: symbols.index(symbol) for symbol in symbols}
        live = is_live(programs, self.vocabulary.eos_id)
        tokens = jnp.where(live, programs, 0)

        def run(tokens: Array, variables: Array) -> tuple[Array, Array]:
            start = (jnp.zeros((_MAX_DEPTH, 1 + LIST_CAPACITY), jnp.int32), jnp.zeros((), bool))
            (stack, is_error), _ = jax.lax.scan(
                lambda carry, token: (_step(codes, variables, carry, token), None), start, tokens
            )
            return stack[0], is_error

        return execute_batch(run, tokens, inputs)


def _step(
    codes: dict[str, int], variables: Array, carry: tuple[Array, Array], token: Array
) -> tuple[Array, Array]:
    """One token; the stack's top is its first row."""
    stack, is_error = carry
    top, below = stack[0], stack[1]
    empty = jnp.zeros_like(stack[:1])
    joined, is_full = _concatenate(below, top)
    unary = {
        "rev": _reverse(top),
        "sort": _sort(top),
        "tail": _tail(top),
        "inc": _masked(top[0], top[1:] + 1),
        "dbl": _masked(top[0], 2 * top[1:]),
        "sums": _masked(top[0], jnp.cumsum(top[1:])),
    }
    binary = {
        "add": _masked(jnp.minimum(below[0], top[0]), below[1:] + top[1:]),
        "cat": joined,
    }
    result = stack
    for symbol, value in zip(_VARIABLES, variables, strict=True):
        pushed = jnp.concatenate([value[None], stack[:-1]])
        result = jnp.where(token == codes[symbol], pushed, result)
    for symbol, value in unary.items():
        changed = jnp.concatenate([value[None], stack[1:]])
        result = jnp.where(token == codes[symbol], changed, result)
    for symbol, value in binary.items():
        popped = jnp.concatenate([value[None], stack[2:], empty])
        result = jnp.where(token == codes[symbol], popped, result)
    is_error |= (token == codes["tail"]) & (top[0] == 0)
    is_error |= (token == codes["cat"]) & is_full
    return result, is_error


def _masked(length: Array, items: Array) -> Array:
    """Packs a list; what lies behind its end becomes 0, so that equal lists are equal arrays."""
    return jnp.concatenate([length[None], jnp.where(_positions() < length, items, 0)])


def _positions() -> Array:
    return jnp.arange(LIST_CAPACITY, dtype=jnp.int32)


def _reverse(packed: Array) -> Array:
    source = jnp.clip(packed[0] - 1 - _positions(), 0, LIST_CAPACITY - 1)
    return _masked(packed[0], packed[1:][source])


def _sort(packed: Array) -> Array:
    largest = jnp.iinfo(jnp.int32).max
    items = jnp.where(_positions() < packed[0], packed[1:], largest)
    return _masked(packed[0], jnp.sort(items))


def _tail(packed: Array) -> Array:
    return _masked(jnp.maximum(packed[0] - 1, 0), jnp.roll(packed[1:], -1))


def _concatenate(first: Array, second: Array) -> tuple[Array, Array]:
    """The joined list, cut to the capacity, and whether it had to be cut."""
    length = first[0] + second[0]
    source = jnp.clip(_positions() - first[0], 0, LIST_CAPACITY - 1)
    items = jnp.where(_positions() < first[0], first[1:], second[1:][source])
    is_full = length > LIST_CAPACITY
    return _masked(jnp.minimum(length, LIST_CAPACITY), items), is_full


__all__ = ["LIST_CAPACITY", "ListMachine"]
