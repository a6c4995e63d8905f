"""Programming problems in the folder format of APPS: text, tests, and people's solutions.

A problem is a folder with
  question.txt       the task, UTF-8
  input_output.json  {"inputs": [...], "outputs": [...]}, and "fn_name" if a function is called
  solutions.json     [program, ...], may be absent
  starter_code.py    the head of the program, may be absent
  metadata.json      {"difficulty": ...}, may be absent
Source of the format: APPS (Hendrycks et al. 2021, arXiv 2105.09938).
"""

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

from hinf_rl.errors import UserError

MAX_FILE_BYTES = 128 * 2**20
"""A larger file is refused before it is read."""


class AppsTest(NamedTuple):
    """One test of a problem.

    Attributes:
      given: text on standard input, or the list of arguments of a call.
      expected: text on standard output, or the value that the call returns.
    """

    given: Any
    expected: Any


@dataclasses.dataclass(frozen=True)
class AppsProblem:
    """One problem.

    Attributes:
      name: of its folder.
      question: the task in words.
      tests: at least one.
      solutions: programs that people wrote; none may be known.
      starter_code: what a program shall begin with, or "".
      fn_name: function that the tests call; None if they talk through standard input and output.
      difficulty: as the problem's metadata say, or None.
    """

    name: str
    question: str
    tests: tuple[AppsTest, ...]
    solutions: tuple[str, ...] = ()
    starter_code: str = ""
    fn_name: str | None = None
    difficulty: str | None = None


def load_problems(folder: Path, *, max_file_bytes: int = MAX_FILE_BYTES) -> tuple[AppsProblem, ...]:
    """Reads all problems in `folder`, in the order of their names.

    Raises:
      UserError: a problem cannot be used; the message names file and field.
    """
    return tuple(
        load_problem(path, max_file_bytes=max_file_bytes) for path in _problem_folders(folder)
    )


def load_usable_problems(
    folder: Path, *, max_file_bytes: int = MAX_FILE_BYTES
) -> tuple[tuple[AppsProblem, ...], dict[str, str]]:
    """Reads the problems in `folder` that can be used; a large collection has some that cannot.

    Returns:
      The problems in the order of their names, and for each folder left out, why.
    """
    problems, refused = [], {}
    for path in _problem_folders(folder):
        try:
            problems.append(load_problem(path, max_file_bytes=max_file_bytes))
        except UserError as error:
            refused[path.name] = str(error)
    return tuple(problems), refused


def load_problem(path: Path, *, max_file_bytes: int = MAX_FILE_BYTES) -> AppsProblem:
    """Reads one problem.

    Raises:
      UserError: a file is missing, too large, not UTF-8 or not JSON, or a field is missing, of
        the wrong type or of the wrong length.
    """
    question = _read_text(path / "question.txt", max_file_bytes)
    tests_file = path / "input_output.json"
    fields = _object(tests_file, max_file_bytes)
    fn_name = fields.get("fn_name")
    if fn_name is not None and not (isinstance(fn_name, str) and fn_name.isidentifier()):
        raise UserError(f"{tests_file}: fn_name must be the name of a function, got {fn_name!r}")
    starter = path / "starter_code.py"
    return AppsProblem(
        name=path.name,
        question=question,
        tests=_tests(tests_file, fields, is_call=fn_name is not None),
        solutions=_solutions(path / "solutions.json", max_file_bytes),
        starter_code=_read_text(starter, max_file_bytes) if starter.exists() else "",
        fn_name=fn_name,
        difficulty=_difficulty(path / "metadata.json", max_file_bytes),
    )


def _problem_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder of problems")
    found = sorted(path for path in folder.iterdir() if path.is_dir())
    if not found:
        raise UserError(f"{folder} holds no problems; each is a folder with question.txt and tests")
    return found


def _tests(file: Path, fields: dict[str, Any], *, is_call: bool) -> tuple[AppsTest, ...]:
    columns = []
    for name in ("inputs", "outputs"):
        if not isinstance(fields.get(name), list):
            given = type(fields[name]).__name__ if name in fields else "nothing"
            raise UserError(f"{file}: {name} must be a list, got {given}")
        columns.append(fields[name])
    inputs, outputs = columns
    if len(inputs) != len(outputs):
        raise UserError(
            f"{file}: inputs and outputs must be as many, got {len(inputs)} and {len(outputs)}"
        )
    if not inputs:
        raise UserError(f"{file}: inputs is empty; a problem without tests cannot be judged")
    if not is_call:
        inputs = [_text(file, "inputs", index, value) for index, value in enumerate(inputs)]
        outputs = [_text(file, "outputs", index, value) for index, value in enumerate(outputs)]
    for index, value in enumerate(inputs):
        if is_call and not isinstance(value, list):
            raise UserError(
                f"{file}: inputs[{index}] must be the list of arguments of the call, "
                f"got {type(value).__name__}"
            )
    return tuple(AppsTest(*pair) for pair in zip(inputs, outputs, strict=True))


def _text(file: Path, field: str, index: int, value: Any) -> str:
    """Text of a test: a string, or a list of lines."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "\n".join(value) + "\n"
    raise UserError(
        f"{file}: {field}[{index}] must be text or a list of lines, got {type(value).__name__}; "
        "tests that call a function need fn_name"
    )


def _solutions(file: Path, max_file_bytes: int) -> tuple[str, ...]:
    if not file.exists():
        return ()
    found = _read_json(file, max_file_bytes)
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise UserError(f"{file}: must be a list of programs as text")
    return tuple(found)


def _difficulty(file: Path, max_file_bytes: int) -> str | None:
    if not file.exists():
        return None
    found = _object(file, max_file_bytes).get("difficulty")
    if found is not None and not isinstance(found, str):
        raise UserError(f"{file}: difficulty must be text, got {type(found).__name__}")
    return found


def _object(file: Path, max_file_bytes: int) -> dict[str, Any]:
    found = _read_json(file, max_file_bytes)
    if not isinstance(found, dict):
        raise UserError(f"{file}: must be a JSON object, got {type(found).__name__}")
    return found


def _read_json(file: Path, max_file_bytes: int) -> Any:
    text = _read_text(file, max_file_bytes)
    try:
        return json.loads(text)
    except RecursionError:
        raise UserError(f"{file}: nested too deeply for JSON") from None
    except ValueError as error:
        raise UserError(f"{file}: not JSON ({error})") from error


def _read_text(file: Path, max_file_bytes: int) -> str:
    """Reads UTF-8 without NUL bytes, which neither a text nor JSON may hold."""
    try:
        if not file.is_file():
            raise UserError(f"{file} is missing or not a file")
        size = file.stat().st_size
        if size > max_file_bytes:
            raise UserError(f"{file}: {size} bytes are more than the {max_file_bytes} allowed")
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 at byte {error.start}; convert it") from error
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from error
    if "\0" in text:
        raise UserError(f"{file}: holds a NUL byte at character {text.index(chr(0))}")
    return text


__all__ = [
    "MAX_FILE_BYTES",
    "AppsProblem",
    "AppsTest",
    "load_problem",
    "load_problems",
    "load_usable_problems",
]
