"""Training that is killed at random moments against training that is let be."""
