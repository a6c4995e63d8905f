"""What the multiplier buys on a linear system, against its exact fixed points."""
