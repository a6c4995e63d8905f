"""What every verifiable task shares: result classes, rewards, vocabulary, problems, verdicts.

Source: B-Coder (arXiv 2310.03173), section 3.1, for the four classes and their rewards.
"""

import enum
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np

from hinf_rl.errors import UserError
from hinf_rl.types import Array


class ResultClass(enum.IntEnum):
    """How a program fared, from best to worst; over several tests the worst counts."""

    PASS = 0
    FAILED_TEST = 1
    RUNTIME_ERROR = 2
    COMPILE_ERROR = 3


REWARDS: tuple[float, ...] = (1.0, -0.3, -0.6, -1.0)
"""Terminal reward by class, B-Coder Eq. 2."""


def unit_test_reward(status: Array) -> Array:
    """Terminal reward of each class.

    Args:
      status: int32 [...] `ResultClass` values.

    Returns:
      float32 [...] rewards.
    """
    return jnp.asarray(REWARDS, jnp.float32)[status]


class Verdict(NamedTuple):
    """What the hidden tests say of B programs."""

    status: Array  # int32 [B] ResultClass
    reward: Array  # float32 [B]


SPECIAL_SYMBOLS = ("<pad>", "<bos>", "<sep>", "<eos>")
"""The first four symbols of every vocabulary."""


class Vocabulary(NamedTuple):
    """Symbols of a task; the id of a token is its index.

    Attributes:
      symbols: `SPECIAL_SYMBOLS` followed by the symbols of problems and programs.
    """

    symbols: tuple[str, ...]

    @property
    def pad_id(self) -> int:
        """Fills prompts on the left and programs on the right."""
        return 0

    @property
    def bos_id(self) -> int:
        """Begins a prompt."""
        return 1

    @property
    def sep_id(self) -> int:
        """Ends a prompt."""
        return 2

    @property
    def eos_id(self) -> int:
        """Ends a program."""
        return 3

    @property
    def size(self) -> int:
        """Number of symbols."""
        return len(self.symbols)

    def encode(self, symbols: Sequence[str]) -> list[int]:
        """Ids of `symbols`.

        Raises:
          UserError: a symbol is unknown.
        """
        for symbol in symbols:
            if symbol not in self.symbols:
                raise UserError(
                    f"symbol {symbol!r} is not in the vocabulary ({' '.join(self.symbols)})"
                )
        return [self.symbols.index(symbol) for symbol in symbols]

    def decode(self, ids: Sequence[int]) -> str:
        """Symbols of `ids` up to the first end, padding left out, joined by spaces."""
        words = []
        for token in ids:
            if token == self.eos_id:
                break
            if token != self.pad_id:
                words.append(self.symbols[token])
        return " ".join(words)


class ProblemSet(NamedTuple):
    """N problems with K hidden tests each, on the host; a PyTree that `jit` takes.

    Attributes:
      prompts: int32 [N, Lp], `pad.. bos text sep`.
      solutions: int32 [N, Lc], a correct program each, `tokens eos pad..`.
      inputs: int32 [N, K, ...] inputs of the hidden tests.
      outputs: int32 [N, K, ...] what the solution gives for them.
    """

    prompts: np.ndarray
    solutions: np.ndarray
    inputs: np.ndarray
    outputs: np.ndarray


class VerifiableTask(Protocol):
    """Problems in tokens whose programs are judged by running them.

    Programs are int32 [..., Lc] without the prompt. They end at the first eos; what follows is
    ignored, and a program without eos does not compile.
    """

    @property
    def name(self) -> str:
        """Name of the task."""
        ...

    @property
    def vocabulary(self) -> Vocabulary:
        """Symbols of prompts and programs."""
        ...

    @property
    def prompt_length(self) -> int:
        """Lp, tokens of every prompt."""
        ...

    @property
    def program_length(self) -> int:
        """Lc, room for a program and its eos."""
        ...

    def problems(self, seed: int, counts: Sequence[int]) -> tuple[ProblemSet, ...]:
        """Draws one set of problems per count; no problem is in two of them."""
        ...

    def verify(self, problems: ProblemSet, programs: Any, problem_ids: Any) -> Verdict:
        """Runs each program against the hidden tests of its problem; can be traced."""
        ...

    def noisy_programs(self, problems: ProblemSet, seed: int, per_problem: int) -> np.ndarray:
        """Draws programs [N, M, Lc] with systematic bugs and random edits."""
        ...

    def human_programs(self, problems: ProblemSet, seed: int, per_problem: int) -> np.ndarray:
        """Draws correct programs [N, M, Lc] that differ from each other where they can."""
        ...


__all__ = [
    "REWARDS",
    "SPECIAL_SYMBOLS",
    "ProblemSet",
    "ResultClass",
    "Verdict",
    "VerifiableTask",
    "Vocabulary",
    "unit_test_reward",
]
