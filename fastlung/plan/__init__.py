"""
How to use a machine: what it has, what scans cost, what to begin with, what to change.

Nouns: a *machine* is what its limits leave (`machine`, `ec2`, `catalogue`); a *size* is a scan by
its listing and a few headers; a *cost* is what such a scan takes of a machine; a *setting* is
workers, bytes ahead and requests, the best of which the *model* predicts. `plan.plan_run` makes
the plan, `tune.Tuner` corrects it while a run measures. Pure but for probing the machine.
"""
