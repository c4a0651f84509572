"""This machine measured through a run, and what other machines would take and cost."""
