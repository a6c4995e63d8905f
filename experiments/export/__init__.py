"""Exported policies: the same numbers, the same survival in plain MuJoCo, and their speed."""
