"""Plain Python interpreters of both machines: the oracle of the vectorised ones.

Written from the description of the languages, token by token; nothing is shared with them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hinf_rl.language.tasks.api import ProblemSet, ResultClass, Vocabulary

Interpreter = Callable[[Sequence[str], Any], Any]
"""Of symbols and the input of one test; returns the output."""


class MachineError(Exception):
    """The interpreted program met a runtime error."""


def wrap_int32(value: int) -> int:
    """The int32 that equals `value` modulo 2^32."""
    return (value + 2**31) % 2**32 - 2**31


def run_stack_machine(program: Sequence[str], variables: Sequence[int]) -> int:
    """Runs `program` with the values of a, b and c.

    Raises:
      SyntaxError: it does not compile.
      MachineError: it divides by zero.
    """
    leaves = dict(zip("abc", variables, strict=True)) | {"1": 1, "2": 2, "3": 3}
    return _run(program, leaves, {}, _ARITHMETIC, max_depth=8)


def run_list_machine(program: Sequence[str], variables: Sequence[list[int]]) -> list[int]:
    """Runs `program` with the lists x and y.

    Raises:
      SyntaxError: it does not compile.
      MachineError: the tail of an empty list, or a list that is too long.
    """
    leaves = dict(zip("xy", variables, strict=True))
    return _run(program, leaves, _LIST_UNARY, _LIST_BINARY, max_depth=4)


def judge(
    interpreter: Interpreter, program: Sequence[str], tests: Sequence[tuple[Any, Any]]
) -> ResultClass:
    """The class of a program over pairs of input and expected output, the worst of all tests."""
    worst = ResultClass.PASS
    for given, expected in tests:
        try:
            output = interpreter(program, given)
        except SyntaxError:
            return ResultClass.COMPILE_ERROR
        except MachineError:
            worst = max(worst, ResultClass.RUNTIME_ERROR)
        else:
            if output != expected:
                worst = max(worst, ResultClass.FAILED_TEST)
    return worst


def reference_status(
    name: str,
    vocabulary: Vocabulary,
    problems: ProblemSet,
    programs: np.ndarray,
    problem_ids: np.ndarray,
) -> np.ndarray:
    """The classes that `PostfixTask.verify` gives, by the plain interpreters.

    Args:
      name: of the task, "stack_machine" or "list_machine".
      vocabulary: of the task.
      problems: N problems.
      programs: int32 [B, Lc].
      problem_ids: int32 [B].

    Returns:
      int32 [B] classes.
    """
    interpreter, unpack = _MACHINES[name]
    status = []
    for program, problem in zip(programs.tolist(), problem_ids.tolist(), strict=True):
        tests = zip(problems.inputs[problem], problems.outputs[problem], strict=True)
        pairs = [(unpack(given), unpack(expected)) for given, expected in tests]
        status.append(judge(interpreter, symbols_of(vocabulary, program), pairs))
    return np.asarray(status, np.int32)


def symbols_of(vocabulary: Vocabulary, program: Sequence[int]) -> list[str]:
    """Symbols of token ids; an id outside of the vocabulary becomes one that nobody knows."""
    known = range(vocabulary.size)
    return [vocabulary.symbols[token] if token in known else "?" for token in program]


def unpack_lists(packed: np.ndarray) -> Any:
    """One packed list [9], or several [..., 9], as lists of Python integers."""
    if packed.ndim == 1:
        return packed[1 : 1 + packed[0]].tolist()
    return [unpack_lists(row) for row in packed]


def _run(
    program: Sequence[str],
    leaves: Mapping[str, Any],
    unary: Mapping[str, Callable[[Any], Any]],
    binary: Mapping[str, Callable[[Any, Any], Any]],
    max_depth: int,
) -> Any:
    """Runs a postfix program; a syntax error anywhere outranks a runtime error before it."""
    stack: list[Any] = []
    failure: MachineError | None = None
    for symbol in program:
        if symbol == "<eos>":
            break
        if symbol in leaves:
            stack.append(leaves[symbol])
        elif symbol in unary or symbol in binary:
            operation = unary.get(symbol) or binary[symbol]
            count = 1 if symbol in unary else 2
            if len(stack) < count:
                raise SyntaxError(f"{symbol} lacks operands")
            operands = [stack.pop() for _ in range(count)][::-1]
            try:
                # After a failure only the number of values on the stack matters.
                stack.append(None if failure else operation(*operands))
            except MachineError as error:
                failure = error
                stack.append(None)
        else:
            raise SyntaxError(f"{symbol} is no instruction")
        if len(stack) > max_depth:
            raise SyntaxError("the stack is full")
    else:
        raise SyntaxError("no end")
    if len(stack) != 1:
        raise SyntaxError(f"{len(stack)} values are left")
    if failure:
        raise failure
    return stack[0]


def _divide(left: int, right: int) -> int:
    if right == 0:
        raise MachineError("division by zero")
    return wrap_int32(left // right)


def _tail(items: list[int]) -> list[int]:
    if not items:
        raise MachineError("tail of an empty list")
    return items[1:]


def _sums(items: list[int]) -> list[int]:
    return [wrap_int32(sum(items[: end + 1])) for end in range(len(items))]


def _join(first: list[int], second: list[int]) -> list[int]:
    if len(first) + len(second) > 8:
        raise MachineError("a list is too long")
    return first + second


_ARITHMETIC: dict[str, Callable[[int, int], int]] = {
    "+": lambda left, right: wrap_int32(left + right),
    "-": lambda left, right: wrap_int32(left - right),
    "*": lambda left, right: wrap_int32(left * right),
    "/": _divide,
}
_LIST_UNARY: dict[str, Callable[[list[int]], list[int]]] = {
    "rev": lambda items: items[::-1],
    "sort": sorted,
    "tail": _tail,
    "inc": lambda items: [wrap_int32(item + 1) for item in items],
    "dbl": lambda items: [wrap_int32(2 * item) for item in items],
    "sums": _sums,
}
_LIST_BINARY: dict[str, Callable[[list[int], list[int]], list[int]]] = {
    "add": lambda first, second: [wrap_int32(a + b) for a, b in zip(first, second, strict=False)],
    "cat": _join,
}
_MACHINES: dict[str, tuple[Interpreter, Callable[[np.ndarray], Any]]] = {
    "stack_machine": (run_stack_machine, lambda value: value.tolist()),
    "list_machine": (run_list_machine, unpack_lists),
}

__all__ = [
    "Interpreter",
    "MachineError",
    "judge",
    "reference_status",
    "run_list_machine",
    "run_stack_machine",
    "symbols_of",
    "unpack_lists",
    "wrap_int32",
]
