"""Linear-quadratic games learned from samples, against their exact solution."""
