"""Quadrupeds on slopes, stairs, blocks and slippery ground."""
