"""Aliengo under force: every algorithm at equal steps, measured by the same protocol."""
