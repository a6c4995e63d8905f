"""Settings of B-Coder; every baseline is one of its configurations."""

import dataclasses
from typing import Literal

from hinf_rl.errors import UserError, unknown_name

ALGORITHMS = {
    "bcoder": "value pre-training, then L_Q with the conservative operator, L_adv and L_ce",
    "conservative_q": "as bcoder, without human supervision: L_Q alone",
    "optimality_q": "as conservative_q, with the maximum over tokens as the next action",
    "dueling_dqn": "as optimality_q, without value pre-training",
    "sft": "cross-entropy on the human programs alone",
    "reinforce": "policy gradient on the model's own new samples, mean of the others as baseline",
}
"""Name to one line of what it learns from."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BCoderConfig:
    """Stage one fits a value under the frozen model, stage two fine-tunes model and value.

    Attributes:
      iterations: gradient steps in all.
      value_fraction: share of them that stage one takes.
      batch_size: programs per gradient step.
      human_fraction: share of a batch that is human programs, the rest is stored samples.
      alpha: temperature of the policy that the logits are, in reward per nat. At consistency a
        token worth dQ less has odds exp(-dQ / alpha): well below the spread of the rewards (2),
        or L_Q flattens the model.
      gamma: discount per token; a little below 1 prefers short programs.
      max_value: cap of the value, the largest return.
      objective: "value" learns from stored programs, "policy_gradient" from new samples.
      operator: "conservative" (next action: the frozen model's) or "optimality" (the maximum).
      q_weight, advantage_weight, cross_entropy_weight: of L_Q, L_adv and L_ce.
      group_size: samples per problem and step of the policy gradient.
      value_learning_rate: of stage one, constant.
      learning_rate: of stage two, falling linearly to 0.
      weight_decay: of AdamW, both stages.
    """

    iterations: int = 700
    value_fraction: float = 3 / 7
    batch_size: int = 64
    human_fraction: float = 0.5
    alpha: float = 0.1
    gamma: float = 0.999
    max_value: float = 1.0
    objective: Literal["value", "policy_gradient"] = "value"
    operator: Literal["conservative", "optimality"] = "conservative"
    q_weight: float = 1.0
    advantage_weight: float = 0.1
    cross_entropy_weight: float = 0.5
    group_size: int = 4
    value_learning_rate: float = 3e-4
    learning_rate: float = 3e-4
    weight_decay: float = 0.05

    def __post_init__(self) -> None:
        for name in ("iterations", "batch_size"):
            _require(getattr(self, name) >= 1, f"{name} must be at least 1", getattr(self, name))
        for name in ("human_fraction", "gamma"):
            value = getattr(self, name)
            _require(0.0 <= value <= 1.0, f"{name} must lie in [0, 1]", value)
        _require(
            0.0 <= self.value_fraction < 1.0,
            "value_fraction must lie in [0, 1): stage two needs steps of its own",
            self.value_fraction,
        )
        for name in ("alpha", "value_learning_rate", "learning_rate"):
            value = getattr(self, name)
            _require(0.0 < value < float("inf"), f"{name} must be positive and finite", value)
        for name in ("q_weight", "advantage_weight", "cross_entropy_weight", "weight_decay"):
            value = getattr(self, name)
            _require(0.0 <= value < float("inf"), f"{name} must be >= 0 and finite", value)
        for name, known in (
            ("objective", ("value", "policy_gradient")),
            ("operator", ("conservative", "optimality")),
        ):
            if getattr(self, name) not in known:
                raise UserError(f"{name} must be one of {known}, got {getattr(self, name)!r}")
        self._check_parts()

    def _check_parts(self) -> None:
        """Checks what depends on more than one field."""
        supervised = self.advantage_weight + self.cross_entropy_weight
        if self.objective == "policy_gradient":
            _require(
                self.group_size >= 2 and self.batch_size % self.group_size == 0,
                f"group_size must be at least 2 and divide batch_size = {self.batch_size}",
                self.group_size,
            )
            return
        _require(
            self.q_weight + supervised > 0.0,
            "one of q_weight, advantage_weight and cross_entropy_weight must be positive",
            0.0,
        )
        _require(
            self.num_human > 0 or supervised == 0.0,
            "advantage_weight and cross_entropy_weight need human programs in the batch: raise "
            "human_fraction or set both to 0; human_fraction * batch_size",
            self.human_fraction * self.batch_size,
        )

    @property
    def num_human(self) -> int:
        """Human programs in a batch."""
        return round(self.human_fraction * self.batch_size)

    @property
    def uses_value(self) -> bool:
        """Whether anything is learned from a value."""
        return self.objective == "value" and self.q_weight > 0.0

    @property
    def value_iterations(self) -> int:
        """Gradient steps of stage one; none where no value is used."""
        if not self.uses_value:
            return 0
        return min(round(self.value_fraction * self.iterations), self.iterations - 1)

    @property
    def policy_iterations(self) -> int:
        """Gradient steps of stage two."""
        return self.iterations - self.value_iterations


def apply_algorithm(config: BCoderConfig, algorithm: str) -> BCoderConfig:
    """Turns recommended B-Coder settings into those of one algorithm.

    Algorithms without stage one take as many steps of stage two as the others.

    Raises:
      UserError: there is no such algorithm.
    """
    if algorithm not in ALGORITHMS:
        raise unknown_name("algorithm", algorithm, ALGORITHMS)
    if algorithm == "bcoder":
        return config
    without_value = {"iterations": config.policy_iterations, "value_fraction": 0.0}
    q_alone = {"advantage_weight": 0.0, "cross_entropy_weight": 0.0}
    changes = {
        "conservative_q": q_alone,
        "optimality_q": q_alone | {"operator": "optimality"},
        "dueling_dqn": q_alone | {"operator": "optimality"} | without_value,
        "sft": {"q_weight": 0.0, "advantage_weight": 0.0} | without_value,
        "reinforce": {"objective": "policy_gradient"} | without_value,
    }
    return dataclasses.replace(config, **changes[algorithm])


def _require(holds: bool, rule: str, value: object) -> None:
    if not holds:
        raise UserError(f"{rule}, got {value}")


__all__ = ["ALGORITHMS", "BCoderConfig", "apply_algorithm"]
