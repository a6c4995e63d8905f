"""Both tasks with a few problems."""

import pytest

from hinf_rl.language.tasks import ListMachine, StackMachine

COUNTS = (60, 12)


@pytest.fixture(scope="session", params=[StackMachine(), ListMachine()], ids=lambda t: t.name)
def task(request):
    return request.param


@pytest.fixture(scope="session")
def problem_sets(task):
    """60 and 12 problems of seed 0."""
    return task.problems(0, COUNTS)
