"""Flax modules."""

from hinf_rl.networks.mlp import ACTIVATIONS, MLP, check_activation
from hinf_rl.networks.transformer import KVCache, Output, Transformer, init_cache
from hinf_rl.networks.transformer_config import RopeScaling, TransformerConfig
from hinf_rl.networks.transformer_heads import ResidualValueHead, ValueHead

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "KVCache",
    "Output",
    "ResidualValueHead",
    "RopeScaling",
    "Transformer",
    "TransformerConfig",
    "ValueHead",
    "check_activation",
    "init_cache",
]
