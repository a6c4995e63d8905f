"""Settings of the actor-disturber algorithm; every baseline is one of its configurations."""

import dataclasses
from typing import Literal, NamedTuple

import jax.numpy as jnp

from hinf_rl.errors import UserError
from hinf_rl.networks import check_activation
from hinf_rl.types import Array


def _require(holds: bool, rule: str, value: object) -> None:
    if not holds:
        raise UserError(f"{rule}, got {value}")


def _require_rate(value: float) -> None:
    _require(0.0 < value < float("inf"), "learning_rate must be positive and finite", value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlayerConfig:
    """A Gaussian player: its network and its optimiser.

    Attributes:
      hidden: hidden widths; empty is a linear player without bias.
      activation: activation of the hidden layers.
      distribution: "normal", or "tanh_normal" for actions in [-1, 1].
      init_log_std: logarithm of the first standard deviation (not learned by "newton").
      log_std_range: bounds of the log standard deviation.
      learning_rate: Adam step size, the first one where `desired_kl` adapts it.
      desired_kl: target KL divergence per update; None keeps the step size constant.
      learning_rate_range: bounds of the adaptive step size.
      entropy_cost: weight of the entropy bonus.
      max_grad_norm: global-norm clip of this player's own gradient.
    """

    hidden: tuple[int, ...] = (128, 128)
    activation: str = "elu"
    distribution: Literal["normal", "tanh_normal"] = "normal"
    init_log_std: float = 0.0
    log_std_range: tuple[float, float] = (-4.0, 1.0)
    learning_rate: float = 1e-3
    desired_kl: float | None = 0.01
    learning_rate_range: tuple[float, float] = (1e-5, 1e-2)
    entropy_cost: float = 0.01
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        check_activation(self.activation)
        _require_rate(self.learning_rate)
        _require(self.max_grad_norm > 0, "max_grad_norm must be positive", self.max_grad_norm)
        _require(
            0.0 <= self.entropy_cost < float("inf"),
            "entropy_cost must be >= 0 and finite",
            self.entropy_cost,
        )
        _require(all(width > 0 for width in self.hidden), "hidden must be positive", self.hidden)
        _require(
            self.log_std_range[0] <= self.init_log_std <= self.log_std_range[1],
            f"init_log_std must lie in log_std_range = {self.log_std_range}",
            self.init_log_std,
        )
        if self.desired_kl is not None:
            _require(self.desired_kl > 0, "desired_kl must be positive or none", self.desired_kl)
        if self.distribution not in ("normal", "tanh_normal"):
            raise UserError(
                f"distribution must be 'normal' or 'tanh_normal', got {self.distribution!r}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CriticConfig:
    """The value heads: overall value, task value and, where asked for, the intensity's.

    Attributes:
      kind: "network" (Adam on the squared error) or "quadratic" (least-squares temporal
        difference on quadratic features, exact for linear-quadratic systems).
      hidden, activation: of the network.
      learning_rate: Adam step size.
      max_grad_norm: global-norm clip.
      clip_value: clipping range of the value loss in value units; None does not clip.
      ridge: relative regularisation of the quadratic critic.
    """

    kind: Literal["network", "quadratic"] = "network"
    hidden: tuple[int, ...] = (128, 128)
    activation: str = "elu"
    learning_rate: float = 1e-3
    max_grad_norm: float = 1.0
    clip_value: float | None = 0.2
    ridge: float = 1e-6

    def __post_init__(self) -> None:
        check_activation(self.activation)
        _require_rate(self.learning_rate)
        _require(self.ridge >= 0, "ridge must be >= 0", self.ridge)
        if self.kind not in ("network", "quadratic"):
            raise UserError(f"critic.kind must be 'network' or 'quadratic', got {self.kind!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DisturbanceConfig:
    """Who disturbs, how hard, and when.

    Attributes:
      source: "none", "random" (held for a while) or "learned".
      objective: what the learned disturber is paid for: "task" (lost task reward), "reward"
        (zero-sum: lost reward) or "fall" (terminations).
      limit: largest norm in the environment's unit; None takes the environment's.
      hold_s: a random disturbance is held for a time drawn from this range.
      decision_s: time between two decisions of the learned disturber, which holds its force in
        between; 0 decides at every control step, as in the paper. Noise that changes at every
        step averages out before a heavy body moves: held forces find more.
      undisturbed_fraction: share of the environments that nobody disturbs.
      random_fraction: share of the environments that random held forces push beside a learned
        disturber, which overfits to what it last found: they keep the policy used to the rest.
      warmup_fraction: share of the iterations without disturbance.
      ramp_fraction: share over which the bound then grows linearly to its full value.
      privileged: the disturber sees the critic's observation instead of the policy's.
      player: network and optimiser of the learned disturber; its standard deviation is in
        units of the bound.
    """

    source: Literal["none", "random", "learned"] = "learned"
    objective: Literal["task", "reward", "fall"] = "task"
    limit: float | None = None
    hold_s: tuple[float, float] = (0.2, 1.0)
    decision_s: float = 0.0
    undisturbed_fraction: float = 0.25
    random_fraction: float = 0.0
    warmup_fraction: float = 0.2
    ramp_fraction: float = 0.4
    privileged: bool = False
    player: PlayerConfig = PlayerConfig(
        hidden=(64, 64), init_log_std=-1.0, log_std_range=(-2.0, 0.5), entropy_cost=0.002
    )

    def __post_init__(self) -> None:
        for name, value, known in (
            ("source", self.source, ("none", "random", "learned")),
            ("objective", self.objective, ("task", "reward", "fall")),
        ):
            if value not in known:
                raise UserError(f"disturbance.{name} must be one of {known}, got {value!r}")
        for name in (
            "undisturbed_fraction",
            "random_fraction",
            "warmup_fraction",
            "ramp_fraction",
        ):
            value = getattr(self, name)
            _require(0.0 <= value <= 1.0, f"disturbance.{name} must lie in [0, 1]", value)
        _require(
            self.warmup_fraction + self.ramp_fraction <= 1.0,
            "disturbance.warmup_fraction + ramp_fraction must not exceed 1",
            self.warmup_fraction + self.ramp_fraction,
        )
        _require(
            0.0 < self.hold_s[0] <= self.hold_s[1],
            "disturbance.hold_s must be (low, high) with 0 < low <= high",
            self.hold_s,
        )
        _require(
            0.0 <= self.decision_s < float("inf"),
            "disturbance.decision_s must be >= 0 and finite",
            self.decision_s,
        )
        if self.limit is not None:
            _require(self.limit > 0, "disturbance.limit must be positive or none", self.limit)
        if self.player.distribution != "normal":
            raise UserError("disturbance.player.distribution must be 'normal': it is clipped")

    def decision_steps(self, dt_s: float) -> int:
        """Control steps of `dt_s` seconds that the learned disturber holds its force for."""
        return max(1, round(self.decision_s / dt_s))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConstraintConfig:
    """The H-infinity constraint: cost per disturbance intensity stays below `attenuation`.

    Attributes:
      multiplier: "off" (no constraint, no price on force), "fixed", or "dual" (dual descent).
      attenuation: eta, share of the task reward that a full disturbance may cost.
      intensity_power: p of the intensity (|d| / reference)^p.
      intensity_horizon: "step" takes the intensity's own advantage, "discounted" that of its
        discounted sum, through a critic head of its own.
      multiplier_init, multiplier_max: first value and cap of lambda.
      multiplier_lr: alpha of the dual step.
      baseline_decay: decay of the mean cost of undisturbed environments; None leaves the
        baseline out, and the raw constraint then drives lambda to its cap.
      actor_sees_intensity: pay the actor, too, for the intensity that it meets. Off by
        default: rewarding the actor for force makes it invite disturbances.
    """

    multiplier: Literal["off", "fixed", "dual"] = "dual"
    attenuation: float = 2.0
    intensity_power: float = 1.0
    intensity_horizon: Literal["step", "discounted"] = "step"
    multiplier_init: float = 1.0
    multiplier_max: float = 10.0
    multiplier_lr: float = 0.2
    baseline_decay: float | None = 0.9
    actor_sees_intensity: bool = False

    def __post_init__(self) -> None:
        if self.multiplier not in ("off", "fixed", "dual"):
            raise UserError(
                f"constraint.multiplier must be 'off', 'fixed' or 'dual', got {self.multiplier!r}"
            )
        if self.intensity_horizon not in ("step", "discounted"):
            raise UserError(
                "constraint.intensity_horizon must be 'step' or 'discounted', got "
                f"{self.intensity_horizon!r}"
            )
        _require(self.attenuation > 0, "constraint.attenuation must be > 0", self.attenuation)
        _require(
            self.intensity_power > 0, "constraint.intensity_power must be > 0", self.intensity_power
        )
        _require(
            0.0 <= self.multiplier_init <= self.multiplier_max,
            f"constraint.multiplier_init must lie in [0, multiplier_max = {self.multiplier_max}]",
            self.multiplier_init,
        )
        _require(
            0.0 <= self.multiplier_lr < float("inf"),
            "constraint.multiplier_lr must be >= 0 and finite",
            self.multiplier_lr,
        )
        if self.baseline_decay is not None:
            _require(
                0.0 <= self.baseline_decay < 1.0,
                "constraint.baseline_decay must lie in [0, 1) or be none",
                self.baseline_decay,
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class HinfConfig:
    """One iteration: `num_envs` x `unroll_length` steps, then the players' updates.

    Attributes:
      iterations: length of the training; the warm-up and the ramp are shares of it.
      num_envs: parallel environments.
      unroll_length: steps of each environment per iteration.
      num_epochs, num_minibatches: passes over the data, and parts of each pass.
      gamma: discount per control step.
      gae_lambda: lambda of the generalised advantage estimate.
      clip_ratio: clip range of the surrogate.
      update: "surrogate" (clipped surrogate, Adam) or "newton" (linear Gaussian players: one
        curvature-scaled natural-gradient step per iteration).
      newton_step: share of the estimated Newton step taken by the actor and the disturber; the
        actor must be the faster player, or the game can leave the gains that it can be played at.
      actor_objective: "reward", "constrained" (reward plus lambda times task value) or "game"
        (the zero-sum H-infinity game: task value plus attenuation times intensity).
      normalize_observations: running mean and variance of every input.
      symmetry: "augment" mirrors a random half of each minibatch, "none" does not.
      stagger_episodes: start the environments at random points of their time limit.
      actor, critic, disturbance, constraint: see there.
    """

    iterations: int = 1000
    num_envs: int = 1024
    unroll_length: int = 24
    num_epochs: int = 5
    num_minibatches: int = 4
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip_ratio: float = 0.2
    update: Literal["surrogate", "newton"] = "surrogate"
    newton_step: tuple[float, float] = (0.5, 0.05)
    actor_objective: Literal["reward", "constrained", "game"] = "constrained"
    normalize_observations: bool = True
    symmetry: Literal["none", "augment"] = "none"
    stagger_episodes: bool = True
    actor: PlayerConfig = PlayerConfig()
    critic: CriticConfig = CriticConfig()
    disturbance: DisturbanceConfig = DisturbanceConfig()
    constraint: ConstraintConfig = ConstraintConfig()

    def __post_init__(self) -> None:
        counts = ("iterations", "num_envs", "unroll_length", "num_epochs", "num_minibatches")
        for name in counts:
            _require(getattr(self, name) >= 1, f"{name} must be at least 1", getattr(self, name))
        _require(0.0 < self.gamma < 1.0, "gamma must lie in (0, 1)", self.gamma)
        _require(0.0 <= self.gae_lambda <= 1.0, "gae_lambda must lie in [0, 1]", self.gae_lambda)
        _require(self.clip_ratio > 0, "clip_ratio must be positive", self.clip_ratio)
        for name, value, known in (
            ("update", self.update, ("surrogate", "newton")),
            ("actor_objective", self.actor_objective, ("reward", "constrained", "game")),
            ("symmetry", self.symmetry, ("none", "augment")),
        ):
            if value not in known:
                raise UserError(f"{name} must be one of {known}, got {value!r}")
        self._check_batch()
        self._check_newton()

    def _check_batch(self) -> None:
        batch = self.num_envs * self.unroll_length
        if batch % self.num_minibatches:
            raise UserError(
                f"num_envs * unroll_length = {self.num_envs} * {self.unroll_length} = {batch} "
                f"does not divide into num_minibatches = {self.num_minibatches} equal parts"
            )
        learned = self.disturbance.source == "learned"
        if learned and self.num_undisturbed + self.num_random >= self.num_envs:
            raise UserError(
                f"disturbance.undisturbed_fraction = {self.disturbance.undisturbed_fraction} and "
                f"random_fraction = {self.disturbance.random_fraction} leave none of num_envs = "
                f"{self.num_envs} for the disturber"
            )
        if self.actor_objective == "game" and not self.has_intensity_head:
            raise UserError(
                "actor_objective = 'game' needs constraint.intensity_horizon = 'discounted'"
            )

    def _check_newton(self) -> None:
        linear = not self.actor.hidden and not self.disturbance.player.hidden
        if self.update == "newton" and not (linear and not self.normalize_observations):
            raise UserError(
                "update = 'newton' is for linear players on raw observations: set actor.hidden "
                "and disturbance.player.hidden to () and normalize_observations to false"
            )
        if (self.update == "newton") != (self.critic.kind == "quadratic"):
            raise UserError(
                f"update = 'newton' and critic.kind = 'quadratic' go together, got "
                f"{self.update!r} and {self.critic.kind!r}"
            )
        pushes = self.disturbance
        if self.update == "newton" and max(pushes.decision_s, pushes.random_fraction) > 0.0:
            raise UserError(
                "update = 'newton' learns from every step of every environment: set "
                "disturbance.decision_s and random_fraction to 0, got "
                f"{pushes.decision_s} and {pushes.random_fraction}"
            )
        if self.update == "newton" and not all(0.0 < step <= 1.0 for step in self.newton_step):
            raise UserError(f"newton_step must lie in (0, 1], got {self.newton_step}")

    @property
    def batch_size(self) -> int:
        """Samples of one iteration."""
        return self.num_envs * self.unroll_length

    @property
    def num_undisturbed(self) -> int:
        """Environments that nobody disturbs."""
        if self.disturbance.source == "none":
            return self.num_envs
        return round(self.disturbance.undisturbed_fraction * self.num_envs)

    @property
    def num_random(self) -> int:
        """Environments that random forces push."""
        if self.disturbance.source == "random":
            return self.num_envs - self.num_undisturbed
        if self.disturbance.source == "none":
            return 0
        return round(self.disturbance.random_fraction * self.num_envs)

    @property
    def has_intensity_head(self) -> bool:
        """Whether the critic values the discounted intensity, too."""
        return self.constraint.intensity_horizon == "discounted"


class Hyperparameters(NamedTuple):
    """The numbers of a run that may be swept under `vmap`: [] float32 leaves."""

    gamma: Array
    gae_lambda: Array
    clip_ratio: Array
    attenuation: Array
    multiplier_init: Array
    multiplier_lr: Array
    disturbance_limit: Array
    actor_entropy_cost: Array
    disturber_entropy_cost: Array
    actor_learning_rate: Array
    critic_learning_rate: Array
    disturber_learning_rate: Array


# Where each hyperparameter stands in the configuration.
HYPERPARAMETER_PATHS = {
    "gamma": "gamma",
    "gae_lambda": "gae_lambda",
    "clip_ratio": "clip_ratio",
    "constraint.attenuation": "attenuation",
    "constraint.multiplier_init": "multiplier_init",
    "constraint.multiplier_lr": "multiplier_lr",
    "disturbance.limit": "disturbance_limit",
    "actor.entropy_cost": "actor_entropy_cost",
    "disturbance.player.entropy_cost": "disturber_entropy_cost",
    "actor.learning_rate": "actor_learning_rate",
    "critic.learning_rate": "critic_learning_rate",
    "disturbance.player.learning_rate": "disturber_learning_rate",
}
"""Dotted key below `agent` to its field of `Hyperparameters`: what may differ by seed."""


def hyperparameters(config: HinfConfig, *, default_limit: float) -> Hyperparameters:
    """Collects the sweepable numbers of `config`.

    Args:
      config: the settings.
      default_limit: the environment's disturbance bound, where the settings give none.
    """
    limit = default_limit if config.disturbance.limit is None else config.disturbance.limit
    values = {
        "gamma": config.gamma,
        "gae_lambda": config.gae_lambda,
        "clip_ratio": config.clip_ratio,
        "attenuation": config.constraint.attenuation,
        "multiplier_init": config.constraint.multiplier_init,
        "multiplier_lr": config.constraint.multiplier_lr,
        "disturbance_limit": limit,
        "actor_entropy_cost": config.actor.entropy_cost,
        "disturber_entropy_cost": config.disturbance.player.entropy_cost,
        "actor_learning_rate": config.actor.learning_rate,
        "critic_learning_rate": config.critic.learning_rate,
        "disturber_learning_rate": config.disturbance.player.learning_rate,
    }
    arrays = {name: jnp.asarray(value, jnp.float32) for name, value in values.items()}
    return Hyperparameters(**arrays)


__all__ = [
    "HYPERPARAMETER_PATHS",
    "ConstraintConfig",
    "CriticConfig",
    "DisturbanceConfig",
    "HinfConfig",
    "Hyperparameters",
    "PlayerConfig",
    "hyperparameters",
]
