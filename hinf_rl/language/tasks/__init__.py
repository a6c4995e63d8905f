"""Tasks whose answers are judged by running them: two small languages, and Python itself."""

from hinf_rl.language.tasks.api import (
    REWARDS,
    ProblemSet,
    ResultClass,
    Verdict,
    VerifiableTask,
    Vocabulary,
    unit_test_reward,
)
from hinf_rl.language.tasks.apps import (
    AppsProblem,
    AppsTest,
    load_problem,
    load_problems,
    load_usable_problems,
)
from hinf_rl.language.tasks.grading import Grade, Submission, grade
from hinf_rl.language.tasks.list_machine import ListMachine
from hinf_rl.language.tasks.noisy import Noise
from hinf_rl.language.tasks.sandbox import Limits, Sandbox
from hinf_rl.language.tasks.stack_machine import StackMachine

__all__ = [
    "REWARDS",
    "AppsProblem",
    "AppsTest",
    "Grade",
    "Limits",
    "ListMachine",
    "Noise",
    "ProblemSet",
    "ResultClass",
    "Sandbox",
    "StackMachine",
    "Submission",
    "Verdict",
    "VerifiableTask",
    "Vocabulary",
    "grade",
    "load_problem",
    "load_problems",
    "load_usable_problems",
    "unit_test_reward",
]
