"""
A machine measured through whole runs, and what other machines would take and cost.

Nouns: a *profile* holds what was measured at each *size* (CPUs, memory) of a machine, stage by
stage, round by round, on a *sample* of scans; a *forecast* is the plan of a run that does not
start; an *offer* is what an instance of the catalogue would take and cost.
"""
