"""What an accelerator makes of the project: parity, speed, and Aliengo trained to the end."""
