"""A machine measured through whole runs, and what other machines would take and cost."""
