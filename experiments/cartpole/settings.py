"""Arms, settings and tests of the cart-pole experiment."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

from hinf_rl.errors import UserError, unknown_name
from hinf_rl.tasks import configure
from hinf_rl.training.run_directory import RunConfig

HOLD_S = 0.5
"""How long a random force is held, in training and in the tests."""

RESULTS = Path(__file__).parent / "results"


class Arm(NamedTuple):
    """One way to train: an algorithm, and its price eta of force where it has one."""

    name: str
    algorithm: str
    attenuation: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """A training set-up and the tests that its policies meet.

    Attributes:
      limit_n: bound of the force in training, in N.
      iterations: length of training, 4096 environment steps each.
      undisturbed_fraction: share of the environments that nobody pushes.
      arms: what is compared.
      held_n, impulse_n: sizes of random held forces and of pushes of 0.2 s, in N.
      attack_n: bounds of the fresh attackers, in N.
    """

    limit_n: float
    iterations: int
    undisturbed_fraction: float
    arms: tuple[Arm, ...]
    held_n: tuple[float, ...]
    attack_n: tuple[float, ...]
    impulse_n: tuple[float, ...] = (1.5, 3.0, 4.5)


_BASELINES = (
    Arm("none", "nominal"),
    Arm("random", "domain_randomisation"),
    Arm("unconstrained", "unconstrained"),
)
SETTINGS = {
    "main": Setting(
        limit_n=0.6,
        iterations=800,
        undisturbed_fraction=0.25,
        arms=(*_BASELINES, Arm("hinf", "hinf", 2.0)),
        held_n=(0.6, 0.9),
        attack_n=(0.6, 0.7, 0.9),
    ),
    "hard": Setting(
        limit_n=1.0,
        iterations=400,
        undisturbed_fraction=0.0,
        arms=(*_BASELINES, Arm("hinf_eta1", "hinf", 1.0), Arm("hinf_eta3", "hinf", 3.0)),
        held_n=(1.0,),
        attack_n=(0.5, 1.0),
    ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What one call does.

    Attributes:
      setting: name in `SETTINGS`.
      seeds: training seeds, trained side by side.
      seed: base of all keys.
      attackers: fresh attackers per policy, objective and bound; the worst counts.
      attack_iterations: length of an attack.
      num_envs: test episodes per cell.
      iterations: length of training; None takes the setting's.
      out: folder of the results.
    """

    setting: str = "main"
    seeds: int = 5
    seed: int = 1
    attackers: int = 3
    attack_iterations: int = 80
    num_envs: int = 256
    iterations: int | None = None
    out: Path = RESULTS

    def __post_init__(self) -> None:
        if self.setting not in SETTINGS:
            raise unknown_name("setting", self.setting, SETTINGS)
        if self.seeds < 2:
            raise UserError(f"seeds must be at least 2 to show a spread, got {self.seeds}")


def configure_arm(config: Config, setting: Setting, arm: Arm) -> RunConfig:
    """Settings of one arm; all arms see equally many environment steps."""
    overrides: dict[str, Any] = {
        "env.disturbance_limit_n": setting.limit_n,
        "agent.iterations": config.iterations or setting.iterations,
        "agent.disturbance.undisturbed_fraction": setting.undisturbed_fraction,
        "agent.disturbance.hold_s": (HOLD_S, HOLD_S),
    }
    if arm.attenuation is not None:
        overrides["agent.constraint.attenuation"] = arm.attenuation
    return configure("cartpole", arm.algorithm, overrides)


__all__ = ["HOLD_S", "RESULTS", "SETTINGS", "Arm", "Config", "Setting", "configure_arm"]
