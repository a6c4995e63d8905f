"""Settings of fine-tuning a diffusion policy; each algorithm is a configuration of one loop."""

import dataclasses
from typing import Literal, NamedTuple

import jax.numpy as jnp

from hinf_rl.errors import UserError, unknown_name
from hinf_rl.types import Array

OBJECTIVES = ("prdp", "sdpo", "ddpo", "reinforce")
"""What is minimised."""
ADVANTAGES = ("group", "group_mean", "batch", "context")
"""What a policy gradient's reward is compared with."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """One iteration: `num_contexts` x `group_size` samples, then `num_epochs` passes over them.

    Attributes:
      iterations: length of the training.
      num_contexts, group_size: contexts N of an iteration, and samples B of each.
      num_epochs, num_minibatches: passes over the data, and parts of each pass (whole groups).
      microbatch: denoising steps that a gradient is gathered over at a time, in two passes whose
        memory does not grow with the batch; None differentiates through a minibatch at once.
      objective: "prdp" (reward differences over whole trajectories), "sdpo" (step by step),
        "ddpo" (clipped surrogate) or "reinforce" (score function).
      advantage: of the policy gradients: "group" (mean and deviation of the context's own group),
        "group_mean" (mean alone), "batch", or "context" (running statistics of each context).
      context_buffer, context_min_count: rewards that are remembered of each context, and how many
        it takes for them to replace the batch's.
      source: "online" samples from the policy at the start of the iteration, "offline" from the
        reference.
      offline_batches: different batches of the reference, drawn again in turn as a fixed data set;
        None draws fresh ones for ever.
      beta: price of KL in units of the reward, PRDP's; metrics report E[r] - beta KL with it.
      kl_penalty: price of KL that is taken off the policy gradients' reward.
      clip_eps: largest trusted change of a step's log-probability (prdp, sdpo) or range of its
        ratio (ddpo); None trusts all (prdp, sdpo).
      step_reduce: PRDP's log-ratio is the "sum" over steps, or their "mean".
      include_ties: whether pairs of equal reward count.
      advantage_clip: bound on the advantage.
      step_decay: discount of SDPO's later steps.
      reward_weights: weights of several rewards, summed before the loss.
      learning_rate, weight_decay, max_grad_norm: of AdamW.
    """

    iterations: int = 80
    num_contexts: int = 32
    group_size: int = 8
    num_epochs: int = 10
    num_minibatches: int = 1
    microbatch: int | None = None
    objective: Literal["prdp", "sdpo", "ddpo", "reinforce"] = "prdp"
    advantage: Literal["group", "group_mean", "batch", "context"] = "group"
    context_buffer: int = 32
    context_min_count: int = 16
    source: Literal["online", "offline"] = "online"
    offline_batches: int | None = None
    beta: float = 0.05
    kl_penalty: float = 0.0
    clip_eps: float | None = 0.02
    step_reduce: Literal["sum", "mean"] = "sum"
    include_ties: bool = True
    advantage_clip: float = 5.0
    step_decay: float = 0.99
    reward_weights: tuple[float, ...] | None = None
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        for name in (
            "iterations",
            "num_contexts",
            "group_size",
            "num_epochs",
            "num_minibatches",
            "context_buffer",
            "context_min_count",
        ):
            _require(getattr(self, name) >= 1, f"{name} must be at least 1", getattr(self, name))
        for name in ("microbatch", "offline_batches"):
            value = getattr(self, name)
            _require(value is None or value >= 1, f"{name} must be at least 1 or none", value)
        for name, known in (
            ("objective", OBJECTIVES),
            ("advantage", ADVANTAGES),
            ("source", ("online", "offline")),
            ("step_reduce", ("sum", "mean")),
        ):
            if getattr(self, name) not in known:
                raise unknown_name(name, getattr(self, name), known)
        for name in ("beta", "advantage_clip", "learning_rate", "max_grad_norm"):
            _require(getattr(self, name) > 0, f"{name} must be positive", getattr(self, name))
        for name in ("kl_penalty", "weight_decay"):
            value = getattr(self, name)
            _require(value >= 0, f"{name} must not be negative", value)
        _require(0 < self.step_decay <= 1, "step_decay must lie in (0, 1]", self.step_decay)
        self._check_groups()
        self._check_objective()

    def _check_groups(self) -> None:
        if self.num_contexts % self.num_minibatches:
            raise UserError(
                f"num_contexts = {self.num_contexts} does not divide into num_minibatches = "
                f"{self.num_minibatches} equal parts"
            )
        compares = self.objective in ("prdp", "sdpo") or self.advantage.startswith("group")
        if compares and self.group_size < 2:
            raise UserError(
                f"group_size must be at least 2 to compare samples of one context, got "
                f"{self.group_size}: {self.objective} with advantage = {self.advantage!r} learns "
                "nothing from one; advantage = 'batch' with ddpo or reinforce would"
            )
        if self.context_min_count > self.context_buffer:
            raise UserError(
                f"context_min_count = {self.context_min_count} exceeds context_buffer = "
                f"{self.context_buffer}: no context would ever be known"
            )

    def _check_objective(self) -> None:
        if self.clip_eps is not None:
            _require(self.clip_eps > 0, "clip_eps must be positive or none", self.clip_eps)
        elif self.objective == "ddpo":
            raise UserError("clip_eps must be given for ddpo: its clip is the algorithm")
        if self.source == "offline" and self.objective in ("ddpo", "reinforce"):
            raise UserError(
                f"source must be 'online' for {self.objective}: a policy gradient needs its own "
                "samples"
            )
        if self.objective == "prdp" and self.kl_penalty > 0:
            raise UserError("kl_penalty must be 0 for prdp, whose price of KL is beta")

    @property
    def batch_size(self) -> int:
        """Samples, and reward queries, of one iteration."""
        return self.num_contexts * self.group_size


class Hyperparameters(NamedTuple):
    """The numbers of a run that may be swept under `vmap`: [] float32 leaves."""

    learning_rate: Array
    beta: Array
    clip_eps: Array  # inf trusts all
    kl_penalty: Array


def hyperparameters(config: FinetuneConfig) -> Hyperparameters:
    """Collects the sweepable numbers of `config`."""
    clip_eps = float("inf") if config.clip_eps is None else config.clip_eps
    values = (config.learning_rate, config.beta, clip_eps, config.kl_penalty)
    return Hyperparameters(*(jnp.asarray(value, jnp.float32) for value in values))


def _require(holds: bool, rule: str, value: object) -> None:
    if not holds:
        raise UserError(f"{rule}, got {value}")


__all__ = ["ADVANTAGES", "OBJECTIVES", "FinetuneConfig", "Hyperparameters", "hyperparameters"]
