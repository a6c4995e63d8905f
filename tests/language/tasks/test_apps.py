"""Problems in folders: what is read, what is refused and how it is said, and how programs fare."""

import json
import os
from pathlib import Path

import pytest

from hinf_rl.errors import UserError
from hinf_rl.language.tasks import ResultClass
from hinf_rl.language.tasks.apps import (
    load_problem,
    load_problems,
    load_usable_problems,
)
from hinf_rl.language.tasks.grading import (
    Submission,
    grade,
    output_matches,
    value_matches,
)
from hinf_rl.language.tasks.sandbox import Limits, Sandbox

PROBLEMS = Path(__file__).with_name("apps_problems")
GOOD = {
    "question.txt": "Print the sum of two numbers.",
    "input_output.json": json.dumps({"inputs": ["1 2\n"], "outputs": ["3\n"]}),
}


@pytest.fixture(scope="module")
def sandbox():
    found = Sandbox(limits=Limits(cpu_s=1.0, wall_s=5.0))
    try:
        found.capabilities()
        found.run_many([])
    except UserError as error:
        pytest.skip(f"no sandbox on this machine: {error}")
    return found


@pytest.fixture
def write(tmp_path):
    """Writes a problem from text or bytes by file name; None leaves a file out."""

    def make(name="p", **changed):
        folder = tmp_path / name
        folder.mkdir()
        files = GOOD | {file.replace("__", "."): content for file, content in changed.items()}
        for file, content in files.items():
            if content is not None:
                data = content if isinstance(content, bytes) else content.encode()
                (folder / file).write_bytes(data)
        return folder

    return make


def tests_of(**fields):
    return json.dumps({"inputs": ["1"], "outputs": ["1"]} | fields)


def test_our_problems_are_read():
    problems = load_problems(PROBLEMS)
    assert len(problems) == 10
    by_name = {problem.name: problem for problem in problems}
    mirror = by_name["0001_mirror_words"]
    # A list of lines is a text like any other.
    assert mirror.tests[2].given == "one line\ntwo\n"
    rotate = by_name["0009_rotate"]
    assert rotate.fn_name == "rotate" and rotate.tests[0].given == [[[1, 2], [3, 4]]]
    assert by_name["0006_second_largest"].starter_code.startswith("def second_largest(")
    assert {problem.difficulty for problem in problems} == {
        "introductory",
        "interview",
        "competition",
    }


def test_solutions_of_people_pass(sandbox):
    submissions = [
        Submission(problem, solution)
        for problem in load_problems(PROBLEMS)
        for solution in problem.solutions
    ]
    assert len(submissions) == 15
    for submission, found in zip(submissions, grade(submissions, sandbox), strict=True):
        assert found.status == ResultClass.PASS, (submission.problem.name, found)
        assert found.num_passed == len(submission.problem.tests)
        assert found.reward == 1.0 and found.reason == ""


@pytest.mark.parametrize("broken", ["exit()", "print(0)"])
def test_no_problem_is_passed_by_doing_nothing(sandbox, broken):
    submissions = []
    for problem in load_problems(PROBLEMS):
        called = f"def {problem.fn_name}(*arguments):\n    {broken}"
        submissions.append(Submission(problem, called if problem.fn_name else broken))
    assert all(found.status != ResultClass.PASS for found in grade(submissions, sandbox))


def test_classes_and_reasons(sandbox):
    problem = load_problem(PROBLEMS / "0003_stairs")
    programs = {
        # Right for 1 step only.
        "print(input())": (ResultClass.FAILED_TEST, -0.3, "test 2 of 4: wrong output", 1),
        # Right for 1 and 3 steps, an error for 5: the error counts.
        "n = int(input())\nprint({1: 1, 3: 4}[n])": (
            ResultClass.RUNTIME_ERROR,
            -0.6,
            "test 3 of 4: KeyError: 5",
            2,
        ),
        # A wrong output first, then an error.
        "n = int(input())\nprint(0 if n < 5 else 1 / 0)": (
            ResultClass.RUNTIME_ERROR,
            -0.6,
            "test 3 of 4: ZeroDivisionError: division by zero",
            0,
        ),
        "print(": (ResultClass.COMPILE_ERROR, -1.0, "SyntaxError: '(' was never closed", 0),
        "while True: pass": (ResultClass.RUNTIME_ERROR, -0.6, "test 1 of 4: cpu limit", 0),
    }
    found = grade([Submission(problem, program) for program in programs], sandbox)
    for result, (status, reward, reason, passed) in zip(found, programs.values(), strict=True):
        assert (result.status, result.reward, result.num_passed) == (status, reward, passed)
        assert result.reason.startswith(reason), result


def test_the_answer_is_nowhere_to_be_found(sandbox, write):
    answer = "the-hidden-answer"
    problem = load_problem(write(input_output__json=tests_of(outputs=[answer])))
    program = """
import gc, os, sys
found = []
frame = sys._getframe()
while frame:
    found.append(repr(frame.f_locals) + repr(frame.f_globals))
    frame = frame.f_back
found += [repr(thing) for thing in gc.get_objects()]
for folder, _, files in os.walk('/tmp'):
    found += files
print(len(found) > 100, ANSWER in ''.join(found))
"""
    # Turned round at run time, or the program would find itself.
    program = program.replace("ANSWER", f"''.join(reversed({answer[::-1]!r}))")
    (result,) = grade([Submission(problem, program)], sandbox)
    assert result.stdout == "True False\n", result


@pytest.mark.parametrize(
    ("stdout", "expected", "is_right"),
    [
        ("1  2 \n\n3\n", "1 2\n3", True),
        ("1 2 3", "1 2\n3", False),
        ("", "", True),
        ("", "0", False),
        ("a\r\nb", "a\nb\n", True),
        ("1.0", "1", False),
    ],
)
def test_output_is_compared_by_words_and_lines(stdout, expected, is_right):
    assert output_matches(stdout, expected) == is_right


@pytest.mark.parametrize(
    ("value", "expected", "is_right"),
    [
        ("[1, 2]", [1, 2], True),
        ("[1, 2]", [[1, 2]], True),
        ("1", [1], True),
        ("1", [1, 1], False),
        ("null", None, True),
        ("", None, False),
        ("null null", None, False),
        ("[" * 100_000, [], False),
        ("1" * 5000, 1, False),
    ],
)
def test_values_are_compared_by_json(value, expected, is_right):
    assert value_matches(value, expected) == is_right


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"question__txt": None}, r"question\.txt is missing"),
        ({"question__txt": b"caf\xe9"}, r"question\.txt: not UTF-8 at byte 3"),
        ({"question__txt": "a\0b"}, r"question\.txt: holds a NUL byte at character 1"),
        ({"question__txt": "x" * 2001}, r"question\.txt: 2001 bytes are more than the 2000"),
        ({"input_output__json": None}, r"input_output\.json is missing"),
        ({"input_output__json": "{"}, r"input_output\.json: not JSON"),
        ({"input_output__json": ""}, r"input_output\.json: not JSON"),
        ({"input_output__json": "[]"}, r"input_output\.json: must be a JSON object, got list"),
        ({"input_output__json": "{}"}, r"inputs must be a list, got nothing"),
        ({"input_output__json": tests_of(outputs="1")}, r"outputs must be a list, got str"),
        ({"input_output__json": tests_of(outputs=[])}, r"must be as many, got 1 and 0"),
        ({"input_output__json": tests_of(inputs=[], outputs=[])}, r"inputs is empty"),
        ({"input_output__json": tests_of(outputs=[1])}, r"outputs\[0\] must be text.*fn_name"),
        ({"input_output__json": tests_of(inputs=[["1", 2]])}, r"inputs\[0\] must be text"),
        ({"input_output__json": tests_of(fn_name="f")}, r"inputs\[0\] must be the list of arg"),
        ({"input_output__json": tests_of(fn_name="f()")}, r"fn_name must be the name"),
        ({"input_output__json": tests_of(fn_name=3)}, r"fn_name must be the name.*got 3"),
        ({"solutions__json": "3"}, r"solutions\.json: must be a list of programs"),
        ({"solutions__json": '["ok", 3]'}, r"solutions\.json: must be a list of programs"),
        ({"solutions__json": b"\xff\xfe"}, r"solutions\.json: not UTF-8 at byte 0"),
        ({"metadata__json": "[1]"}, r"metadata\.json: must be a JSON object"),
        ({"metadata__json": '{"difficulty": 3}'}, r"metadata\.json: difficulty must be text"),
        ({"starter_code__py": b"\x00"}, r"starter_code\.py: holds a NUL byte"),
    ],
)
def test_a_damaged_problem_is_named_by_file_and_field(write, changed, message):
    with pytest.raises(UserError, match=message) as caught:
        load_problem(write(**changed), max_file_bytes=2000)
    assert "\n" not in str(caught.value)


def test_json_without_a_bottom_is_named(write):
    with pytest.raises(UserError, match=r"input_output\.json: nested too deeply"):
        load_problem(write(input_output__json="[" * 200_000))


def test_what_may_be_absent(write):
    problem = load_problem(write(question__txt="\ufeffA question."))
    assert problem.question == "A question."  # the mark of byte order is not text
    assert problem.solutions == () and problem.starter_code == ""
    assert problem.fn_name is None and problem.difficulty is None


def test_a_folder_in_place_of_a_file_is_named(write):
    folder = write(question__txt=None)
    (folder / "question.txt").mkdir()
    with pytest.raises(UserError, match="not a file"):
        load_problem(folder)


def test_a_device_or_pipe_is_not_waited_for(write):
    folder = write(question__txt=None)
    os.mkfifo(folder / "question.txt")
    with pytest.raises(UserError, match="not a file"):
        load_problem(folder)


def test_one_bad_problem_stops_strict_loading_and_is_listed_otherwise(write, tmp_path):
    write("good")
    write("bad", input_output__json="{")
    with pytest.raises(UserError, match="bad"):
        load_problems(tmp_path)
    problems, refused = load_usable_problems(tmp_path)
    assert [problem.name for problem in problems] == ["good"]
    assert list(refused) == ["bad"] and "not JSON" in refused["bad"]


def test_folders_without_problems_are_named(tmp_path):
    with pytest.raises(UserError, match="holds no problems"):
        load_problems(tmp_path)
    with pytest.raises(UserError, match="is not a folder"):
        load_problems(tmp_path / "absent")
