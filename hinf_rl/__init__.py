"""Reinforcement learning that survives the worst case, and the design of reward itself.

Importing the package is light: no simulator, no plots, no environment variable, no global
configuration. The parts are subpackages:

* `hinf_rl.ops`: the mathematics, arrays in and arrays out.
* `hinf_rl.envs`: environments that take a disturbance.
* `hinf_rl.agents`: actor, disturber and multiplier as one pure `init`/`step` pair.
* `hinf_rl.training`, `hinf_rl.evaluation`: the loop and the robustness protocol.
* `hinf_rl.tasks`: named tasks with their recommended settings.
"""

__version__ = "0.1.0"
"""Version of the package."""

__all__ = ["__version__"]
