"""Trained policies outside of training: ONNX, NumPy alone, JAX; and a simulation of their own."""

from hinf_rl.export.files import Exported, export_run, load_runner
from hinf_rl.export.jax_file import load_policy, read_metadata

__all__ = ["Exported", "export_run", "load_policy", "load_runner", "read_metadata"]
