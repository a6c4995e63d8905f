"""Flax modules."""

from hinf_rl.networks.mlp import ACTIVATIONS, MLP, check_activation

__all__ = ["ACTIVATIONS", "MLP", "check_activation"]
