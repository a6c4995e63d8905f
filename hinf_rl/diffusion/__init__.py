"""Diffusion models as policies: schedules, samplers with per-step log-probabilities, training."""

from hinf_rl.diffusion.model import (
    Chain,
    DiffusionModel,
    Frozen,
    chain_log_probs,
    sample_chain,
    step_log_prob,
    step_mean,
)
from hinf_rl.diffusion.pretrain import (
    PretrainConfig,
    Pretrained,
    denoising_loss,
    ema_update,
    pretrain,
)
from hinf_rl.diffusion.schedule import (
    Schedule,
    ScheduleConfig,
    make_schedule,
    training_schedule,
)

__all__ = [
    "Chain",
    "DiffusionModel",
    "Frozen",
    "PretrainConfig",
    "Pretrained",
    "Schedule",
    "ScheduleConfig",
    "chain_log_probs",
    "denoising_loss",
    "ema_update",
    "make_schedule",
    "pretrain",
    "sample_chain",
    "step_log_prob",
    "step_mean",
    "training_schedule",
]
