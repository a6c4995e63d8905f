"""Fine-tuning of diffusion policies by black-box rewards: PRDP, and policy gradients beside it."""

from hinf_rl.agents.prdp.algorithm import Carry, ChainPolicy, make
from hinf_rl.agents.prdp.config import FinetuneConfig, Hyperparameters, hyperparameters
from hinf_rl.agents.prdp.dppo import DPPOConfig, make_dppo
from hinf_rl.agents.prdp.evaluate import HeldOut, evaluate, reference_rewards

__all__ = [
    "Carry",
    "ChainPolicy",
    "DPPOConfig",
    "FinetuneConfig",
    "HeldOut",
    "Hyperparameters",
    "evaluate",
    "hyperparameters",
    "make",
    "make_dppo",
    "reference_rewards",
]
