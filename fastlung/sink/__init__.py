"""What a run leaves: names, records, volumes, their commit, and the table of them all."""
