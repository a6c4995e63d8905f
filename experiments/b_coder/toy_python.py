"""A few Python exercises in the layout of APPS, with wrong programs to learn them from.

Made here, so that the real path runs without a download: each exercise asks for one line of
arithmetic on the numbers of the input.
"""

import itertools
import json
from pathlib import Path

import numpy as np

_OPERANDS = ("a", "b", "c")
_OPERATORS = {"plus": "+", "minus": "-", "times": "*"}
_READ = "a,b,c=map(int,input().split())\n"


def exercises() -> list[tuple[str, str]]:
    """Every (question, expression) of one or two operators over a, b and c."""
    found = []
    for x, y in itertools.permutations(_OPERANDS, 2):
        for word, sign in _OPERATORS.items():
            found.append((f"{x} {word} {y}", f"{x}{sign}{y}"))
    for order in itertools.permutations(_OPERANDS):
        for words in itertools.product(_OPERATORS, repeat=2):
            x, y, z = order
            first, second = (_OPERATORS[word] for word in words)
            text = f"{x} {words[0]} {y}, all {words[1]} {z}"
            found.append((text, f"({x}{first}{y}){second}{z}"))
    return found


def program(expression: str) -> str:
    """The program that prints an expression."""
    return f"{_READ}print({expression})\n"


def human_programs(expression: str) -> list[str]:
    """Programs that are right, one or two."""
    written = [program(expression)]
    if "(" not in expression and expression[1] in "+*":
        written.append(program(expression[::-1]))
    return written


def noisy_program(expression: str, draw: np.random.Generator) -> str:
    """A program with the bugs of a poor coder: swapped operands, lost brackets, a slip."""
    if "-" in expression and draw.random() < 0.5:
        where = expression.index("-")
        left, right = expression[:where], expression[where + 1 :]
        if "(" not in left or ")" in left:
            expression = f"{right}-{left}"
    if draw.random() < 0.3:
        expression = expression.replace("(", "").replace(")", "")
    text = program(expression)
    if draw.random() < 0.15:
        where = int(draw.integers(len(text) - 1))
        text = text[:where] + text[where + 1 :]
    return text


def write_problems(folder: Path, chosen: list[tuple[str, str]], seed: int) -> None:
    """Writes exercises as APPS folders: question, tests, solutions."""
    draw = np.random.default_rng(seed)
    for number, (question, expression) in enumerate(chosen):
        numbers = draw.integers(-9, 10, (4, 3))
        inputs = [" ".join(map(str, row)) + "\n" for row in numbers.tolist()]
        outputs = [f"{_value(expression, row)}\n" for row in numbers.tolist()]
        place = folder / f"{number:04d}"
        place.mkdir(parents=True)
        (place / "question.txt").write_text(question, encoding="utf-8")
        tests = {"inputs": inputs, "outputs": outputs}
        (place / "input_output.json").write_text(json.dumps(tests), encoding="utf-8")
        solutions = json.dumps(human_programs(expression))
        (place / "solutions.json").write_text(solutions, encoding="utf-8")
        metadata = json.dumps({"difficulty": "introductory", "url": ""})
        (place / "metadata.json").write_text(metadata, encoding="utf-8")


def _value(expression: str, numbers: list[int]) -> int:
    """Value of one of our own expressions."""
    a, b, c = numbers
    return eval(expression, {"__builtins__": {}}, {"a": a, "b": b, "c": c})


__all__ = ["exercises", "human_programs", "noisy_program", "program", "write_problems"]
