"""envs/physics."""
