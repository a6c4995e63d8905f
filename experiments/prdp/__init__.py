"""PRDP against policy gradients on a ring, a point robot and small images."""
