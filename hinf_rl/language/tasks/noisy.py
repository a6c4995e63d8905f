"""Programs to learn from: with systematic bugs, and correct ones as people would vary them."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from hinf_rl.errors import UserError
from hinf_rl.language.tasks.api import SPECIAL_SYMBOLS, ProblemSet
from hinf_rl.language.tasks.expressions import (
    Expression,
    commutations,
    exchange_nested,
    exchange_operands,
    from_postfix,
    postfix,
)
from hinf_rl.language.tasks.problems import expression_program, pad_program, seeded_generator

if TYPE_CHECKING:
    from hinf_rl.language.tasks.postfix import PostfixTask


@dataclasses.dataclass(frozen=True, kw_only=True)
class Noise:
    """What the programs of a careless author look like.

    Attributes:
      exchange: for each binary symbol, how often its operands are exchanged: a bug, unless the
        symbol commutes.
      exchange_nested: how often a unary symbol changes places with the one below it.
      edit: how often one random token is deleted, replaced or inserted at the end.
    """

    exchange: Mapping[str, float]
    exchange_nested: float = 0.0
    edit: float = 0.15

    def __post_init__(self) -> None:
        """Checks that every number is a probability."""
        given = {f"exchange[{symbol!r}]": value for symbol, value in self.exchange.items()}
        given |= {"exchange_nested": self.exchange_nested, "edit": self.edit}
        for name, value in given.items():
            if not 0.0 <= value <= 1.0:
                raise UserError(f"{name} is a probability and must lie in [0, 1], got {value}")


def noisy_programs(
    task: "PostfixTask", problems: ProblemSet, seed: int, per_problem: int
) -> np.ndarray:
    """Draws programs under `task.noise`; int32 [N, per_problem, Lc]."""
    _check_per_problem(per_problem)
    generator = seeded_generator(seed, "noisy")
    return _programs(
        task,
        problems,
        lambda tree: [_noisy_program(task, tree, generator) for _ in range(per_problem)],
    )


def human_programs(
    task: "PostfixTask", problems: ProblemSet, seed: int, per_problem: int
) -> np.ndarray:
    """Draws commutations of each solution; int32 [N, per_problem, Lc]."""
    _check_per_problem(per_problem)
    generator = seeded_generator(seed, "human")

    def draw(tree: Expression) -> list[np.ndarray]:
        variants = commutations(task.grammar, tree)
        order = np.resize(generator.permutation(len(variants)), per_problem)
        return [expression_program(task, variants[index]) for index in order]

    return _programs(task, problems, draw)


def _check_per_problem(per_problem: int) -> None:
    if per_problem < 1:
        raise UserError(f"per_problem must be at least 1, got {per_problem}")


def _programs(
    task: "PostfixTask", problems: ProblemSet, draw: Callable[[Expression], list[np.ndarray]]
) -> np.ndarray:
    """Stacks what `draw` gives for the expression of each problem."""
    return np.stack([np.stack(draw(_expression(task, row))) for row in problems.solutions])


def _expression(task: "PostfixTask", solution: np.ndarray) -> Expression:
    return from_postfix(task.grammar, task.vocabulary.decode(solution.tolist()).split())


def _noisy_program(
    task: "PostfixTask", tree: Expression, generator: np.random.Generator
) -> np.ndarray:
    noise = task.noise
    tree = exchange_operands(tree, noise.exchange, generator)
    tree = exchange_nested(tree, noise.exchange_nested, generator)
    tokens = task.vocabulary.encode(postfix(tree))
    if generator.random() < noise.edit:
        tokens = _edited(tokens, task.vocabulary.size, generator)
    return pad_program(task, tokens)


def _edited(tokens: list[int], vocabulary_size: int, generator: np.random.Generator) -> list[int]:
    """Deletes, replaces or inserts one token; a new one is any that is not special."""
    token = int(generator.integers(len(SPECIAL_SYMBOLS), vocabulary_size))
    kind = int(generator.integers(3))
    # There is one place more to insert at than there are tokens to delete or replace.
    place = int(generator.integers(len(tokens) + (kind == 2)))
    replaced = [] if kind == 0 else [token]
    return tokens[:place] + replaced + tokens[place + (kind != 2) :]


__all__ = ["Noise", "human_programs", "noisy_programs"]
