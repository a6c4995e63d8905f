"""Wrong configurations, models, checkpoints and commands, and what is said about them."""
