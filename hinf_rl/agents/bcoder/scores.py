"""Scores by which candidates are ranked: likelihoods, and the reward that Q implies."""

from collections.abc import Callable

import jax.numpy as jnp

from hinf_rl.agents.bcoder.algorithm import Carry
from hinf_rl.agents.bcoder.config import BCoderConfig
from hinf_rl.agents.bcoder.data import Programs, Prompts, forced_output
from hinf_rl.agents.bcoder.networks import Networks
from hinf_rl.networks.transformer import Transformer
from hinf_rl.ops.bellman_tokens import greedy_actions, log_prob_of, recovered_rewards
from hinf_rl.types import Array

RANKERS = {
    "log_prob_reference": "log-likelihood under the frozen pre-trained model",
    "log_prob": "log-likelihood under the fine-tuned model",
    "advantage": "sum of the advantages, alpha log(pi / max pi)",
    "reward": "recovered reward, approximate (eq. 19)",
    "reward_exact": "recovered reward, exact (eq. 18)",
}
"""Name to what candidate programs are sorted by."""


def make_scores(
    config: BCoderConfig, transformer: Transformer
) -> Callable[[Carry, Prompts, Programs], dict[str, Array]]:
    """Returns a function from (carry, prompts, [B] programs) to [B] scores by ranker.

    All are sums over the tokens of a program, higher is better. The recovered rewards are left
    out where nothing was learned from a value.
    """
    networks = Networks(transformer, config.max_value)

    def scores(carry: Carry, prompts: Prompts, programs: Programs) -> dict[str, Array]:
        mask, numbers = programs.mask, carry.hyperparameters
        reference = forced_output(transformer, carry.reference, prompts, programs).logits
        raw_value = jnp.zeros(mask.shape, jnp.float32)
        if config.uses_value:
            raw_value = networks.raw_value(carry.value, prompts, programs)
        parts = networks.q_parts(
            carry.policy, carry.twin, raw_value, prompts, programs,
            greedy_actions(reference), numbers.alpha,
        )  # fmt: skip
        per_token = {
            "log_prob_reference": log_prob_of(reference, programs.tokens),
            "log_prob": log_prob_of(parts.logits, programs.tokens),
            "advantage": parts.taken,
        }
        if config.uses_value:
            q_taken = parts.taken + parts.value
            for name, bootstrap in (
                ("reward", parts.value),
                ("reward_exact", parts.value + parts.greedy),
            ):
                per_token[name] = recovered_rewards(q_taken, bootstrap, mask, numbers.gamma)
        return {
            name: jnp.sum(jnp.where(mask, value, 0.0), axis=-1) for name, value in per_token.items()
        }

    return scores


__all__ = ["RANKERS", "make_scores"]
