"""
Many scans on one machine: list, skip what is done, plan, compute, commit.

Nouns: the *listing* finds source groups; the *dispatcher* (`schedule`) gives them out as *leases*
within a memory budget; the *pool* holds the *workers*, one process each; the *driver* connects
them, one thread that waits for what happens next. `engine.run` is the way in.
"""
