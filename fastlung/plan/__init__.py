"""How to use a machine: what it has, what scans need, what to begin with, what to change."""
