"""What the commands of `hinf-rl` do; one module each, imported when it is run."""

__all__: list[str] = []
