"""Token side: speed of cached sampling, and imported checkpoints against their own package."""
