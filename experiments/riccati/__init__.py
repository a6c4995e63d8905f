"""The linear-quadratic oracle against numbers that were computed without it."""
