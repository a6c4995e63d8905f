"""What is compared: each arm is a configuration of one code."""

import dataclasses
from typing import Any

from hinf_rl.agents.bcoder import BCoderConfig, apply_algorithm
from hinf_rl.program_tasks import ProgramConfig

VALUE_STEPS, POLICY_STEPS = 300, 400
AGENT = BCoderConfig(
    iterations=VALUE_STEPS + POLICY_STEPS,
    value_fraction=VALUE_STEPS / (VALUE_STEPS + POLICY_STEPS),
)
TASKS = {
    "stack_machine": ProgramConfig(machine="stack_machine"),
    "list_machine": ProgramConfig(machine="list_machine"),
}
# None of these was looked at while the code was written.
SEEDS = (100, 101, 102)


@dataclasses.dataclass(frozen=True)
class Arm:
    """One line of the tables.

    Attributes:
      name: of the file.
      title: in the tables.
      group: "main", "alpha" or "scarce".
      algorithm: name of an algorithm.
      changes: to the agent's settings.
      human_problems: training problems with human programs; None for all.
    """

    name: str
    title: str
    group: str
    algorithm: str
    changes: dict[str, Any] = dataclasses.field(default_factory=dict)
    human_problems: int | None = None

    @property
    def agent(self) -> BCoderConfig:
        """The agent's settings."""
        return apply_algorithm(dataclasses.replace(AGENT, **self.changes), self.algorithm)

    def task(self, base: ProgramConfig) -> ProgramConfig:
        """The task's settings."""
        return dataclasses.replace(base, human_problems=self.human_problems)


# Few problems with human programs leave fewer of them for a batch.
_SCARCE = {"changes": {"human_fraction": 0.25}, "human_problems": 20}
ARMS = (
    Arm("bcoder", "B-Coder", "main", "bcoder"),
    Arm("sft", "SFT (L_ce alone)", "main", "sft"),
    Arm("conservative_q", "L_Q alone, B^q", "main", "conservative_q"),
    Arm("optimality_q", "L_Q alone, B*", "main", "optimality_q"),
    Arm("dueling_dqn", "L_Q alone, B*, no stage one", "main", "dueling_dqn"),
    Arm("reinforce", "REINFORCE, new samples", "main", "reinforce"),
    Arm("bcoder_alpha_0.03", "B-Coder, alpha 0.03", "alpha", "bcoder", {"alpha": 0.03}),
    Arm("bcoder_alpha_0.3", "B-Coder, alpha 0.3", "alpha", "bcoder", {"alpha": 0.3}),
    Arm("bcoder_alpha_1", "B-Coder, alpha 1 (the paper's)", "alpha", "bcoder", {"alpha": 1.0}),
    Arm("bcoder_scarce", "B-Coder, human programs for 20 problems", "scarce", "bcoder", **_SCARCE),
    Arm("sft_scarce", "SFT, human programs for 20 problems", "scarce", "sft", **_SCARCE),
)
GROUPS = tuple(dict.fromkeys(arm.group for arm in ARMS))

__all__ = ["AGENT", "ARMS", "GROUPS", "POLICY_STEPS", "SEEDS", "TASKS", "VALUE_STEPS", "Arm"]
