"""MJX against native physics from equal states."""
