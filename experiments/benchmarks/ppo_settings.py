"""What both sides of the comparison with Brax's PPO are set to; imports nothing of either."""

import dataclasses
import json


@dataclasses.dataclass(frozen=True)
class Settings:
    """One training of Brax's inverted pendulum.

    A turn is what a side computes before the other has the machine: one epoch of Brax's, one
    compiled call of ours. Minibatches hold `num_envs / num_minibatches` rollouts at Brax's and as
    many samples of any rollout at ours.
    """

    environment: str = "inverted_pendulum"
    backend: str = "spring"
    episode_length: int = 1000
    num_envs: int = 256
    unroll_length: int = 32
    num_minibatches: int = 8
    num_epochs: int = 4
    hidden: tuple[int, ...] = (64, 64)
    learning_rate: float = 1e-3
    entropy_cost: float = 2e-3
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip_ratio: float = 0.2
    iterations_per_turn: int = 5
    turns: int = 12
    evaluation_envs: int = 128

    @property
    def steps_per_turn(self) -> int:
        """Environment steps of one turn."""
        return self.num_envs * self.unroll_length * self.iterations_per_turn

    @property
    def iterations(self) -> int:
        """Iterations of the whole training."""
        return self.iterations_per_turn * self.turns


def from_text(text: str) -> Settings:
    """Reads what `to_text` wrote."""
    data = json.loads(text)
    return Settings(**{**data, "hidden": tuple(data["hidden"])})


def to_text(settings: Settings) -> str:
    """Settings as JSON, to hand to another process."""
    return json.dumps(dataclasses.asdict(settings))
