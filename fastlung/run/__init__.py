"""Many scans: what is there, what is left, how to go about it, and doing it."""
