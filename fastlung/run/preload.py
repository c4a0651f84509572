"""
Imported by the server that workers are forked from, and by nothing else.

Everything a worker needs is imported and every kernel is loaded here, once: a worker that starts
cold pays about 0.9 s of imports and 0.85 s of loading kernels, a forked one nothing.
"""

import os
import signal

# Ctrl-C reaches the whole process group; the parent decides what it means.
signal.signal(signal.SIGINT, signal.SIG_IGN)

# One compute thread in each worker: N workers with N threads each fight over N processors. Read
# by the libraries when they are loaded, hence before the imports below. This is the environment of
# the server and of the workers; the user's own process is another one.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"

import fastlung.run.process  # noqa: E402, F401 (imports all that a worker uses)
from fastlung.run.warmup import ready_kernels  # noqa: E402

ready_kernels()
