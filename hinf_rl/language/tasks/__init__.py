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
from hinf_rl.language.tasks.list_machine import ListMachine
from hinf_rl.language.tasks.noisy import Noise
from hinf_rl.language.tasks.stack_machine import StackMachine

__all__ = [
    "REWARDS",
    "ListMachine",
    "Noise",
    "ProblemSet",
    "ResultClass",
    "StackMachine",
    "Verdict",
    "VerifiableTask",
    "Vocabulary",
    "unit_test_reward",
]
