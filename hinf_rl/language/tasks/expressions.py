"""Expression trees: how a problem is written (infix) and what a program for it is (postfix).

An expression is a tuple `(symbol, *operands)`; a leaf has no operands.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

Expression = tuple  # (str, *Expression): the type checker knows no recursive tuples
"""An operator or a leaf, followed by its operands."""


class Grammar(NamedTuple):
    """Symbols of a family of expressions.

    Attributes:
      leaves: symbols without operands.
      unary: prefix symbols; they bind tighter than any binary one.
      binary: infix symbols with their precedence; all associate to the left.
      commutative: the binary symbols whose operands may be exchanged.
    """

    leaves: tuple[str, ...]
    unary: tuple[str, ...]
    binary: Mapping[str, int]
    commutative: frozenset[str]

    def arity(self, symbol: str) -> int:
        """Number of operands, -1 for a symbol that no program may contain."""
        if symbol in self.leaves:
            return 0
        if symbol in self.unary:
            return 1
        return 2 if symbol in self.binary else -1


def infix(grammar: Grammar, expression: Expression) -> list[str]:
    """Writes an expression with the fewest brackets from which the same tree is read back."""
    symbol, *operands = expression
    if not operands:
        return [symbol]
    if len(operands) == 1:
        inner = infix(grammar, operands[0])
        return [symbol, *_bracketed(inner, len(operands[0]) == 3)]
    precedence = grammar.binary[symbol]
    left, right = operands
    # Read from the left, a chain of equal precedence needs brackets on its right operand only.
    open_left = len(left) == 3 and grammar.binary[left[0]] < precedence
    open_right = len(right) == 3 and grammar.binary[right[0]] <= precedence
    return [
        *_bracketed(infix(grammar, left), open_left),
        symbol,
        *_bracketed(infix(grammar, right), open_right),
    ]


def postfix(expression: Expression) -> list[str]:
    """Writes an expression as a program of a stack machine: operands first."""
    symbol, *operands = expression
    return [word for operand in operands for word in postfix(operand)] + [symbol]


def from_postfix(grammar: Grammar, program: list[str]) -> Expression:
    """Reads a well-formed program back as the expression that it computes."""
    stack: list[Expression] = []
    for symbol in program:
        first = len(stack) - grammar.arity(symbol)
        stack[first:] = [(symbol, *stack[first:])]
    (expression,) = stack
    return expression


def random_tree(grammar: Grammar, num_leaves: int, generator: np.random.Generator) -> Expression:
    """Draws a tree of leaves and binary symbols; every split of the leaves is as likely."""
    if num_leaves == 1:
        return (_choose(grammar.leaves, generator),)
    symbol = _choose(tuple(grammar.binary), generator)
    num_left = int(generator.integers(1, num_leaves))
    left = random_tree(grammar, num_left, generator)
    return (symbol, left, random_tree(grammar, num_leaves - num_left, generator))


def add_unary(
    grammar: Grammar, expression: Expression, count: int, generator: np.random.Generator
) -> Expression:
    """Puts `count` random unary symbols above random nodes."""
    for _ in range(count):
        target = int(generator.integers(num_nodes(expression)))
        expression = _wrap(expression, target, _choose(grammar.unary, generator))
    return expression


def num_nodes(expression: Expression) -> int:
    """Number of symbols in the tree, which is the length of its program."""
    return 1 + sum(num_nodes(operand) for operand in expression[1:])


def exchange_operands(
    expression: Expression, probability: Mapping[str, float], generator: np.random.Generator
) -> Expression:
    """Exchanges the operands of each binary node with the probability of its symbol."""
    symbol, *operands = expression
    operands = [exchange_operands(operand, probability, generator) for operand in operands]
    if len(operands) == 2 and generator.random() < probability.get(symbol, 0.0):
        operands.reverse()
    return (symbol, *operands)


def exchange_nested(
    expression: Expression, probability: float, generator: np.random.Generator
) -> Expression:
    """Exchanges a unary symbol with a unary one directly below, with the given probability."""
    symbol, *operands = expression
    operands = [exchange_nested(operand, probability, generator) for operand in operands]
    is_nested = len(operands) == 1 and len(operands[0]) == 2
    if is_nested and generator.random() < probability:
        (inner,) = operands
        return (inner[0], (symbol, inner[1]))
    return (symbol, *operands)


def canonical(grammar: Grammar, expression: Expression) -> Expression:
    """The same for all expressions that differ by commutation only."""
    symbol, *operands = expression
    operands = [canonical(grammar, operand) for operand in operands]
    return (symbol, *(sorted(operands) if symbol in grammar.commutative else operands))


def commutations(grammar: Grammar, expression: Expression) -> list[Expression]:
    """All expressions that commutation reaches, the given one first, without repeats."""
    symbol, *operands = expression
    if not operands:
        return [expression]
    if len(operands) == 1:
        return [(symbol, inner) for inner in commutations(grammar, operands[0])]
    lefts, rights = (commutations(grammar, operand) for operand in operands)
    found = [(symbol, left, right) for left in lefts for right in rights]
    if symbol in grammar.commutative:
        found += [(symbol, right, left) for _, left, right in found]
    return list(dict.fromkeys(found))


def _bracketed(words: list[str], is_open: bool) -> list[str]:
    return ["(", *words, ")"] if is_open else words


def _choose(symbols: tuple[str, ...], generator: np.random.Generator) -> str:
    return symbols[int(generator.integers(len(symbols)))]


def _wrap(expression: Expression, target: int, unary: str) -> Expression:
    """Puts `unary` above node `target`, counted in prefix order."""
    if target == 0:
        return (unary, expression)
    symbol, *operands = expression
    target -= 1
    for index, operand in enumerate(operands):
        size = num_nodes(operand)
        if target < size:
            operands[index] = _wrap(operand, target, unary)
            break
        target -= size
    return (symbol, *operands)


__all__ = [
    "Expression",
    "Grammar",
    "add_unary",
    "canonical",
    "commutations",
    "exchange_nested",
    "exchange_operands",
    "from_postfix",
    "infix",
    "num_nodes",
    "postfix",
    "random_tree",
]
