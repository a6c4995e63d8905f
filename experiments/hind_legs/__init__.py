"""A1 on its hind legs: how long it stays up, trained and without action."""
