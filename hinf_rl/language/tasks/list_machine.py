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
    is_now = {symbol: token == code for symbol, code in codes.items()}
    result, is_failure = _apply(is_now, stack[0], stack[1])
    is_leaf = is_now["x"] | is_now["y"]
    is_binary = is_now["add"] | is_now["cat"]
    is_unary = (token >= codes["rev"]) & (token <= codes["sums"])
    pushed = jnp.concatenate([jnp.where(is_now["x"], *variables)[None], stack[:-1]])
    changed = jnp.concatenate([result[None], stack[1:]])
    popped = jnp.concatenate([result[None], stack[2:], jnp.zeros_like(stack[:1])])
    stack = jnp.where(is_leaf, pushed, stack)
    stack = jnp.where(is_unary, changed, stack)
    return jnp.where(is_binary, popped, stack), is_error | is_failure


def _apply(is_now: dict[str, Array], top: Array, below: Array) -> tuple[Array, Array]:
    """The list that the current symbol makes of the two topmost, and whether it fails.

    Every symbol changes the items of the top list, moves them to other places, or both; so one
    movement serves all, and places are compared rather than looked up, which vectorises.
    """
    length, items = top[0], top[1:]
    position = jnp.arange(LIST_CAPACITY, dtype=jnp.int32)
    is_item = position < length
    # Axis 0 is the item that asks, axis 1 the one that it looks at.
    is_before = position[None, :] < position[:, None]
    is_less = (items[None, :] < items[:, None]) | ((items[None, :] == items[:, None]) & is_before)
    rank = jnp.sum(is_less & is_item[None, :], axis=1, dtype=jnp.int32)
    is_up_to = position[None, :] <= position[:, None]
    sums = jnp.sum(jnp.where(is_up_to, items[None, :], 0), axis=1, dtype=jnp.int32)

    values = _choose(
        is_now, {"inc": items + 1, "dbl": 2 * items, "sums": sums, "add": items + below[1:]}, items
    )
    places = {
        "rev": length - 1 - position,
        "sort": rank,
        "tail": position - 1,
        "cat": below[0] + position,
    }
    place = jnp.where(is_item, _choose(is_now, places, position), LIST_CAPACITY)
    lengths = {
        "tail": jnp.maximum(length - 1, 0),
        "add": jnp.minimum(length, below[0]),
        "cat": jnp.minimum(below[0] + length, LIST_CAPACITY),
    }
    new_length = _choose(is_now, lengths, length)
    arrives = place[None, :] == position[:, None]
    moved = jnp.sum(jnp.where(arrives, values[None, :], 0), axis=1, dtype=jnp.int32)
    moved = jnp.where(is_now["cat"] & (position < below[0]), below[1:], moved)
    # What lies behind the end is 0, so that equal lists are equal arrays.
    packed = jnp.concatenate([new_length[None], jnp.where(position < new_length, moved, 0)])
    is_failure = is_now["tail"] & (length == 0)
    return packed, is_failure | (is_now["cat"] & (below[0] + length > LIST_CAPACITY))


def _choose(is_now: dict[str, Array], options: dict[str, Array], otherwise: Array) -> Array:
    """The option of the current symbol, `otherwise` where it has none."""
    for symbol, value in options.items():
        otherwise = jnp.where(is_now[symbol], value, otherwise)
    return otherwise


__all__ = ["LIST_CAPACITY", "ListMachine"]
