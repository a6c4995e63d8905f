"""envs/legged."""
