"""Maths only: arrays in, arrays out. No nets, no environment, no optimiser, no files."""

from hinf_rl.ops.distributions import (
    normal_entropy,
    normal_kl,
    normal_log_prob,
    normal_sample,
    tanh_normal_entropy,
    tanh_normal_log_prob,
    tanh_normal_sample,
)
from hinf_rl.ops.hinf import (
    actor_advantage,
    centred_intensity,
    disturbance_intensity,
    disturber_advantage,
    dual_update,
    force_schedule,
    hinf_constraint,
    nominal_cost_ema,
    radial_clip,
    task_cost,
)
from hinf_rl.ops.normalize import (
    NormalizerState,
    normalizer_apply,
    normalizer_init,
    normalizer_update,
)
from hinf_rl.ops.returns import (
    discounted_return,
    gae,
    lambda_returns,
    multi_head_gae,
    two_head_gae,
)
from hinf_rl.ops.surrogate import (
    clipped_surrogate,
    clipped_value_loss,
    kl_step_size,
    masked_mean,
    masked_std,
    normalize_advantage,
)

__all__ = [
    "NormalizerState",
    "actor_advantage",
    "centred_intensity",
    "clipped_surrogate",
    "clipped_value_loss",
    "discounted_return",
    "disturbance_intensity",
    "disturber_advantage",
    "dual_update",
    "force_schedule",
    "gae",
    "hinf_constraint",
    "kl_step_size",
    "lambda_returns",
    "masked_mean",
    "masked_std",
    "multi_head_gae",
    "nominal_cost_ema",
    "normal_entropy",
    "normal_kl",
    "normal_log_prob",
    "normal_sample",
    "normalize_advantage",
    "normalizer_apply",
    "normalizer_init",
    "normalizer_update",
    "radial_clip",
    "tanh_normal_entropy",
    "tanh_normal_log_prob",
    "tanh_normal_sample",
    "task_cost",
    "two_head_gae",
]
