"""Returns and generalised advantage estimates over time-major rollouts.

Every array is [T, ...]: time first, then any batch shape. Three masks describe a step:
`terminated` (the task ended, no value follows), `truncated` (cut short, the value of the true
final observation follows) and `valid` (False where a broken step was thrown away).
"""

import chex
import jax
import jax.numpy as jnp

from hinf_rl.types import Array, Numeric


def gae(
    r_t: Array,
    v_t: Array,
    v_tp1: Array,
    terminated_t: Array,
    truncated_t: Array,
    valid_t: Array,
    *,
    gamma: Numeric,
    gae_lambda: Numeric,
) -> tuple[Array, Array]:
    """Generalised advantage estimate and the value target that belongs to it.

    delta_t = r_t + gamma (1 - terminated_t) v_tp1 - v_t
    A_t = delta_t + gamma lambda (1 - terminated_t) (1 - truncated_t) A_{t+1}
    Source: Schulman et al. 2016, eq. 16, with episode ends told apart.

    Args:
      r_t: [T, ...] reward that follows the observation at t.
      v_t: [T, ...] value of the observation at t.
      v_tp1: [T, ...] value of the true next observation, taken before any reset.
      terminated_t: [T, ...] bool, the step ended the task.
      truncated_t: [T, ...] bool, the step was the last before a cut.
      valid_t: [T, ...] bool, False where the step was non-finite and its environment reset.
      gamma: scalar discount per step, in [0, 1].
      gae_lambda: scalar trace decay, in [0, 1].

    Returns:
      [T, ...] advantages and [T, ...] value targets A_t + v_t. An invalid step has advantage 0
      and its own value as target; nothing of it reaches an earlier step.

    Raises:
      AssertionError: shapes differ or a mask is not boolean.
    """
    chex.assert_equal_shape([r_t, v_t, v_tp1, terminated_t, truncated_t, valid_t])
    chex.assert_type([terminated_t, truncated_t, valid_t], bool)
    # Selected, not multiplied: the value after a termination may be anything, NaN included.
    delta_t = r_t + gamma * jnp.where(terminated_t, 0.0, v_tp1) - v_t
    delta_t = jnp.where(valid_t, delta_t, 0.0)
    goes_on_t = valid_t & ~(terminated_t | truncated_t)

    def backward(a_tp1: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        delta, goes_on = step
        a_t = delta + jnp.where(goes_on, gamma * gae_lambda * a_tp1, 0.0)
        return a_t, a_t

    start = jnp.zeros_like(delta_t[0])
    _, advantage_t = jax.lax.scan(backward, start, (delta_t, goes_on_t), reverse=True)
    return advantage_t, advantage_t + v_t


def lambda_returns(
    r_t: Array,
    v_tp1: Array,
    terminated_t: Array,
    truncated_t: Array,
    *,
    gamma: Numeric,
    gae_lambda: Numeric,
) -> Array:
    """Lambda-returns, a mixture of all n-step returns.

    G_t = r_t + gamma ((1 - lambda) v_tp1 + lambda G_{t+1}), with r_t alone on termination and
    r_t + gamma v_tp1 on truncation and on the last step.
    Source: Sutton and Barto 2018, eq. 12.18 to 12.20.

    Args:
      r_t: [T, ...] rewards.
      v_tp1: [T, ...] value of the true next observation.
      terminated_t: [T, ...] bool.
      truncated_t: [T, ...] bool.
      gamma: scalar discount per step.
      gae_lambda: scalar trace decay.

    Returns:
      [T, ...] returns.

    Raises:
      AssertionError: shapes differ or a mask is not boolean.
    """
    chex.assert_equal_shape([r_t, v_tp1, terminated_t, truncated_t])
    chex.assert_type([terminated_t, truncated_t], bool)

    def backward(g_tp1: Array, step: tuple[Array, ...]) -> tuple[Array, Array]:
        reward, value, terminated, truncated = step
        mixed = jnp.where(truncated, value, (1.0 - gae_lambda) * value + gae_lambda * g_tp1)
        g_t = reward + gamma * jnp.where(terminated, 0.0, mixed)
        return g_t, g_t

    steps = (r_t, v_tp1, terminated_t, truncated_t)
    return jax.lax.scan(backward, v_tp1[-1], steps, reverse=True)[1]


def discounted_return(r_t: Array, done_t: Array, *, gamma: Numeric) -> Array:
    """Monte Carlo return to the end of the episode or of the window, without bootstrap.

    G_t = r_t + gamma (1 - done_t) G_{t+1}.

    Args:
      r_t: [T, ...] rewards.
      done_t: [T, ...] bool, the step was the last of its episode.
      gamma: scalar discount per step.

    Returns:
      [T, ...] returns.

    Raises:
      AssertionError: shapes differ or `done_t` is not boolean.
    """
    no_value = jnp.zeros_like(r_t)
    return lambda_returns(r_t, no_value, done_t, done_t, gamma=gamma, gae_lambda=1.0)


def multi_head_gae(
    r_t: Array,
    v_t: Array,
    v_tp1: Array,
    terminated_t: Array,
    truncated_t: Array,
    valid_t: Array,
    *,
    gamma: Numeric,
    gae_lambda: Numeric,
) -> tuple[Array, Array]:
    """`gae` of several reward streams of the same episodes.

    Args:
      r_t: [T, B, H] rewards, one stream per head.
      v_t: [T, B, H] values.
      v_tp1: [T, B, H] values of the true next observation.
      terminated_t: [T, B] bool, shared by the heads.
      truncated_t: [T, B] bool.
      valid_t: [T, B] bool.
      gamma: scalar discount per step.
      gae_lambda: scalar trace decay.

    Returns:
      [T, B, H] advantages and [T, B, H] value targets.

    Raises:
      AssertionError: shapes differ or a mask is not boolean.
    """
    chex.assert_equal_shape([r_t, v_t, v_tp1])

    def one_head(reward: Array, value: Array, next_value: Array) -> tuple[Array, Array]:
        masks = (terminated_t, truncated_t, valid_t)
        return gae(reward, value, next_value, *masks, gamma=gamma, gae_lambda=gae_lambda)

    return jax.vmap(one_head, in_axes=-1, out_axes=-1)(r_t, v_t, v_tp1)


def two_head_gae(
    r_t: Array,
    task_r_t: Array,
    v_t: Array,
    task_v_t: Array,
    v_tp1: Array,
    task_v_tp1: Array,
    terminated_t: Array,
    truncated_t: Array,
    valid_t: Array,
    *,
    gamma: Numeric,
    gae_lambda: Numeric,
) -> tuple[Array, Array, Array, Array]:
    """`gae` of the whole reward and of the task reward, the two heads of the H-infinity critic.

    The task head learns the task reward, which is 0 after a fall, and the cost's advantage is
    its negative. A head that learned the cost itself would see a fall END the cost, and a
    disturber paid by it would keep the robot standing.

    Args:
      r_t: [T, B] whole reward.
      task_r_t: [T, B] task reward.
      v_t: [T, B] value of the whole reward.
      task_v_t: [T, B] value of the task reward.
      v_tp1: [T, B] value of the true next observation, whole reward.
      task_v_tp1: [T, B] the same, task reward.
      terminated_t: [T, B] bool.
      truncated_t: [T, B] bool.
      valid_t: [T, B] bool.
      gamma: scalar discount per step.
      gae_lambda: scalar trace decay.

    Returns:
      [T, B] advantage, task advantage, value target, task value target.

    Raises:
      AssertionError: shapes differ or a mask is not boolean.
    """
    advantage, target = multi_head_gae(
        jnp.stack([r_t, task_r_t], axis=-1),
        jnp.stack([v_t, task_v_t], axis=-1),
        jnp.stack([v_tp1, task_v_tp1], axis=-1),
        terminated_t,
        truncated_t,
        valid_t,
        gamma=gamma,
        gae_lambda=gae_lambda,
    )
    return advantage[..., 0], advantage[..., 1], target[..., 0], target[..., 1]


__all__ = ["discounted_return", "gae", "lambda_returns", "multi_head_gae", "two_head_gae"]
