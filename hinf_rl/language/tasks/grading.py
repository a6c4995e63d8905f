"""Judges Python programs by the tests of their problem, in the classes of every task."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from hinf_rl.language.tasks.api import REWARDS, ResultClass
from hinf_rl.language.tasks.apps import AppsProblem, AppsTest
from hinf_rl.language.tasks.sandbox import Call, Ending, Execution, Job, Sandbox


class Submission(NamedTuple):
    """A program for a problem."""

    problem: AppsProblem
    program: str


class Grade(NamedTuple):
    """How a program fared.

    Attributes:
      status: class, the worst of all tests that were run.
      reason: one line on the first test that gave this class; empty if all passed.
      stdout: what the program wrote there.
      num_passed: tests passed; after an error the others are not run.
      wall_s: of all tests together.
      cpu_s: of all tests together.
    """

    status: ResultClass
    reason: str
    stdout: str
    num_passed: int
    wall_s: float
    cpu_s: float

    @property
    def reward(self) -> float:
        """Terminal reward of the class."""
        return REWARDS[self.status]


def grade(
    submissions: Sequence[Submission], sandbox: Sandbox, *, num_workers: int | None = None
) -> list[Grade]:
    """Runs each program on every test of its problem, each time in a process of its own.

    Output is compared line by line and word by word, whatever the spaces; returned values are
    compared as JSON. A compile or runtime error, limits included, ends the tests of a program.

    Args:
      submissions: problems and programs.
      sandbox: where they run.
      num_workers: most processes at a time; None is one for each usable core.

    Returns:
      One grade for each submission, in order.

    Raises:
      UserError: the sandbox is not to be had on this machine.
    """
    first = [(index, 0) for index in range(len(submissions))]
    outcomes = _run(submissions, first, sandbox, num_workers)
    rest = [
        (index, test)
        for index, submission in enumerate(submissions)
        if outcomes[index, 0].status <= ResultClass.FAILED_TEST
        for test in range(1, len(submission.problem.tests))
    ]
    outcomes |= _run(submissions, rest, sandbox, num_workers)
    by_submission: list[list[_Outcome]] = [[] for _ in submissions]
    for index, test in sorted(outcomes):
        by_submission[index].append(outcomes[index, test])
    return [_grade(found) for found in by_submission]


def output_matches(stdout: str, expected: str) -> bool:
    """Whether two texts have the same words on the same lines, empty lines left out."""
    lines, wanted = (
        [line.split() for line in text.splitlines() if line.strip()] for text in (stdout, expected)
    )
    return lines == wanted


def value_matches(value: str, expected: Any) -> bool:
    """Whether JSON text is the expected value, or the only one in a list, as APPS wraps some."""
    try:
        found = json.loads(value)
        is_wrapped = isinstance(expected, list) and len(expected) == 1
        return found == expected or (is_wrapped and found == expected[0])
    except (ValueError, RecursionError):
        # The program may write here what it likes.
        return False


class _Outcome(NamedTuple):
    status: ResultClass
    reason: str
    execution: Execution


def _run(
    submissions: Sequence[Submission],
    keys: list[tuple[int, int]],
    sandbox: Sandbox,
    num_workers: int | None,
) -> dict[tuple[int, int], _Outcome]:
    """Outcomes by number of submission and test."""
    jobs = [_job(submissions[index], test) for index, test in keys]
    executions = sandbox.run_many(jobs, num_workers)
    return {
        (index, test): _judge(submissions[index].problem, test, execution)
        for (index, test), execution in zip(keys, executions, strict=True)
    }


def _job(submission: Submission, index: int) -> Job:
    problem, program = submission
    test: AppsTest = problem.tests[index]
    if problem.fn_name is None:
        return Job(program, stdin=test.given)
    return Job(program, call=Call(problem.fn_name, test.given))


def _judge(problem: AppsProblem, index: int, execution: Execution) -> _Outcome:
    if execution.ending == Ending.COMPILE_ERROR:
        return _Outcome(ResultClass.COMPILE_ERROR, execution.reason, execution)
    where = f"test {index + 1} of {len(problem.tests)}"
    if execution.ending != Ending.FINISHED:
        return _Outcome(ResultClass.RUNTIME_ERROR, f"{where}: {execution.reason}", execution)
    expected = problem.tests[index].expected
    if problem.fn_name is None:
        is_right = output_matches(execution.stdout, expected)
    else:
        is_right = value_matches(execution.value, expected)
    if is_right:
        return _Outcome(ResultClass.PASS, "", execution)
    kind = "output" if problem.fn_name is None else "value"
    return _Outcome(ResultClass.FAILED_TEST, f"{where}: wrong {kind}", execution)


def _grade(outcomes: list[_Outcome]) -> Grade:
    decisive = max(outcomes, key=lambda outcome: outcome.status)
    return Grade(
        status=decisive.status,
        reason=decisive.reason,
        stdout=decisive.execution.stdout,
        num_passed=sum(outcome.status == ResultClass.PASS for outcome in outcomes),
        wall_s=sum(outcome.execution.wall_s for outcome in outcomes),
        cpu_s=sum(outcome.execution.cpu_s for outcome in outcomes),
    )


__all__ = ["Grade", "Submission", "grade", "output_matches", "value_matches"]
