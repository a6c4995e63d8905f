"""Policy gradients over denoising steps: advantages and losses of DDPO and DPPO."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from hinf_rl.ops.surrogate import clipped_surrogate, normalize_advantage
from hinf_rl.types import Array, Numeric


def batch_advantages(reward: Array, mask: Array) -> Array:
    """Rewards less their mean over their deviation, over all samples of a batch.

    Args:
      reward: [N, B] of N contexts with B samples each.
      mask: [N, B] bool, the samples that count.

    Returns:
      [N, B] advantages, 0 outside the mask.
    """
    return normalize_advantage(reward, mask, 1e-6)


def group_advantages(reward: Array, mask: Array, *, scale: bool = True) -> Array:
    """Rewards less the mean of their own context's group, over the group's deviation.

    Source: Shao et al. 2024 (GRPO), eq. 4; without `scale` the baseline alone, as RLOO up to the
    factor (B - 1) / B.

    Args:
      reward: [N, B] of N contexts with B samples each.
      mask: [N, B] bool, the samples that count.
      scale: whether to divide by the deviation.

    Returns:
      [N, B] advantages, 0 outside the mask and in groups of equal rewards.
    """
    if scale:
        return jax.vmap(lambda r, m: normalize_advantage(r, m, 1e-6))(reward, mask)
    count = jnp.maximum(jnp.sum(mask, axis=1, dtype=jnp.float32), 1.0)
    mean = jnp.sum(jnp.where(mask, reward, 0.0), axis=1) / count
    return jnp.where(mask, reward - mean[:, None], 0.0)


class ContextStatistics(NamedTuple):
    """The last rewards of each of G contexts."""

    rewards: Array  # [G, S] ring buffers
    count: Array  # [G] int32 rewards that were ever written


def context_statistics_init(num_contexts: int, buffer_size: int) -> ContextStatistics:
    """Returns empty buffers.

    Args:
      num_contexts: G.
      buffer_size: S, rewards that are remembered of each.
    """
    return ContextStatistics(
        jnp.zeros((num_contexts, buffer_size), jnp.float32), jnp.zeros(num_contexts, jnp.int32)
    )


def context_statistics_update(
    state: ContextStatistics, context: Array, reward: Array, mask: Array
) -> ContextStatistics:
    """Writes rewards into their contexts' buffers, the oldest going first.

    Args:
      state: the buffers.
      context: [N] int32 number of each group's context.
      reward: [N, B].
      mask: [N, B] bool, the samples that count.
    """
    size = state.rewards.shape[1]

    def write(
        state: ContextStatistics, one: tuple[Array, Array, Array]
    ) -> tuple[ContextStatistics, None]:
        index, value, counts = one
        slot = state.count[index] % jnp.int32(size)
        kept = jnp.where(counts, value, state.rewards[index, slot])
        return ContextStatistics(
            state.rewards.at[index, slot].set(kept),
            state.count.at[index].add(counts.astype(jnp.int32)),
        ), None

    rows = jnp.repeat(context, reward.shape[1])
    return jax.lax.scan(write, state, (rows, reward.ravel(), mask.ravel()))[0]


def context_advantages(
    state: ContextStatistics, context: Array, reward: Array, mask: Array, *, min_count: int
) -> Array:
    """Rewards normalised by what their context is known to give, once enough is known.

    Source: Black et al. 2024 (DDPO), per-prompt statistics. Contexts with fewer than `min_count`
    rewards are normalised by the batch.

    Args:
      state: the buffers, these rewards included.
      context: [N] int32 number of each group's context.
      reward: [N, B].
      mask: [N, B] bool, the samples that count.
      min_count: rewards that a context's statistics need.

    Returns:
      [N, B] advantages, 0 outside the mask.
    """
    size = state.rewards.shape[1]
    filled = jnp.minimum(state.count, size)
    seen = jnp.arange(size, dtype=jnp.int32)[None, :] < filled[:, None]
    number = jnp.maximum(filled.astype(jnp.float32), 1.0)
    mean = jnp.sum(jnp.where(seen, state.rewards, 0.0), axis=1) / number
    square = jnp.where(seen, (state.rewards - mean[:, None]) ** 2, 0.0)
    std = jnp.sqrt(jnp.sum(square, axis=1) / number)
    own = (reward - mean[context][:, None]) / (std[context][:, None] + 1e-6)
    is_known = (state.count[context] >= min_count)[:, None]
    return jnp.where(mask, jnp.where(is_known, own, batch_advantages(reward, mask)), 0.0)


def ddpo_loss(
    log_prob: Array,
    old_log_prob: Array,
    advantage: Array,
    *,
    clip_eps: Numeric,
    advantage_clip: float,
) -> Array:
    """Clipped surrogate of each denoising step, with its sample's advantage.

    Source: Black et al. 2024 (DDPO_IS), eq. 5.

    Args:
      log_prob: [...] of the steps, under the policy that learns.
      old_log_prob: [...] under the policy that sampled, a constant.
      advantage: [...] of the steps' samples, a constant.
      clip_eps: clip range of the ratio.
      advantage_clip: bound on the advantage.

    Returns:
      [...] loss.
    """
    bounded = jnp.clip(advantage, -advantage_clip, advantage_clip)
    return clipped_surrogate(log_prob, old_log_prob, bounded, clip_ratio=clip_eps)


def reinforce_loss(log_prob: Array, advantage: Array, *, advantage_clip: float) -> Array:
    """Score-function loss of each denoising step. Source: Black et al. 2024 (DDPO_SF), eq. 4.

    Args:
      log_prob: [...] of the steps.
      advantage: [...] of the steps' samples, a constant.
      advantage_clip: bound on the advantage.

    Returns:
      [...] loss, -A log pi.
    """
    chex.assert_equal_shape([log_prob, advantage])
    return -jax.lax.stop_gradient(jnp.clip(advantage, -advantage_clip, advantage_clip)) * log_prob


def dppo_clip_range(
    step: Array, num_steps: int, *, clip_eps: Numeric, clip_base: Numeric, rate: float = 3.0
) -> Array:
    """Clip range that grows from the noisiest trained step to the last.

    e_k = base + (eps - base) (exp(rate k / (K - 1)) - 1) / (exp(rate) - 1).
    Source: Ren et al. 2025 (DPPO), reference implementation.

    Args:
      step: [...] int32 k in [0, K), 0 the noisiest trained step.
      num_steps: K, trained steps.
      clip_eps: range at the last step.
      clip_base: range at the first.
      rate: of the growth.

    Returns:
      [...] clip range; `clip_eps` where there is one step only.
    """
    if num_steps == 1:
        return jnp.full(step.shape, clip_eps, jnp.float32)
    share = step.astype(jnp.float32) / (num_steps - 1)
    growth = jnp.expm1(rate * share) / jnp.expm1(jnp.float32(rate))
    return clip_base + (clip_eps - clip_base) * growth


def dppo_loss(
    log_prob: Array,
    old_log_prob: Array,
    advantage: Array,
    step: Array,
    *,
    num_steps: int,
    gamma_denoise: float,
    clip_eps: Numeric,
    clip_base: Numeric,
) -> Array:
    """Clipped surrogate of denoising steps inside environment steps.

    The advantage of an environment step is discounted by gamma_denoise^(K - 1 - k) for the
    earlier, noisier steps; the clip range follows `dppo_clip_range`.
    Source: Ren et al. 2025 (DPPO), eq. 5 and reference implementation.

    Args:
      log_prob: [...] of the steps, under the policy that learns: means over the numbers of the
        action chunk, as there.
      old_log_prob: [...] under the policy that sampled, a constant.
      advantage: [...] of the environment steps, a constant.
      step: [...] int32 k in [0, K), 0 the noisiest trained step.
      num_steps: K, trained steps.
      gamma_denoise: discount per denoising step.
      clip_eps: clip range at the last step.
      clip_base: clip range at the first trained one.

    Returns:
      [...] loss.
    """
    left = (num_steps - 1 - step).astype(jnp.float32)
    clip = dppo_clip_range(step, num_steps, clip_eps=clip_eps, clip_base=clip_base)
    discounted = advantage * jnp.float32(gamma_denoise) ** left
    return clipped_surrogate(log_prob, old_log_prob, discounted, clip_ratio=clip)


__all__ = [
    "ContextStatistics",
    "batch_advantages",
    "context_advantages",
    "context_statistics_init",
    "context_statistics_update",
    "ddpo_loss",
    "dppo_clip_range",
    "dppo_loss",
    "group_advantages",
    "reinforce_loss",
]
