"""What simulates robots: native MuJoCo and MJX behind one step function."""
