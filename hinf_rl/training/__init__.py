"""The loop, checkpoints, logs and run directories; one device or many, one process or several."""
