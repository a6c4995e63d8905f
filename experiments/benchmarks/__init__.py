"""Speed of simulation and training, as ratios of two sides that take turns."""
