"""Quadrupeds as data, and their tasks: velocity commands, terrain, hind legs."""
