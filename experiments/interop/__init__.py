"""Environments and trainers of other packages."""
