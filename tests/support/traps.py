"""
Source groups that do harm to the worker which takes them, and only there.

A trap looks like a group to the parent. What a worker unpickles is an object that strikes when one
of its attributes is asked for; nothing in fastlung knows of traps.
"""

from __future__ import annotations

import os

from fastlung.text import stable_id

DIE = "os.kill(os.getpid(), signal.SIGKILL)"
CRASH = "os.kill(os.getpid(), signal.SIGSEGV)"
HANG = "time.sleep(3600)"
HOG = "bytearray(1 << 45)"
#: A Rust extension's panic is no `Exception`.
PANIC = "(_ for _ in ()).throw(type('PanicException', (BaseException,), {})('SECRET-19700101'))"
BUG = "{}['SECRET-19700101']"


def once(action: str, marker: str) -> str:
    """Do harm the first time only; the marker file tells that it was done."""
    return f"None if os.path.exists({marker!r}) else (open({marker!r}, 'x').close(), {action})"


class Trap:
    """
    A group without objects.

    Parameters
    ----------
    label : str
        Its label.
    action : str
        Python expression; what happens in the worker.
    at : str
        Asked for what: ``label``, when the group is begun, or ``objects``, when it is read.
    """

    objects = ()
    unreadable = False
    kind = "files"
    store_url = ""
    size_bytes = 0
    digest = "0" * 16

    def __init__(self, label: str, action: str, *, at: str = "label") -> None:
        self.label = label
        self.id = stable_id(label)
        self.action = action
        self.at = at

    def __reduce__(self):
        names = (
            "id", "label", "objects", "unreadable", "kind", "store_url", "size_bytes", "digest",
        )  # fmt: skip
        fields = {name: getattr(self, name) for name in names}
        # In a worker only: the driver unpacks what a lost worker held.
        strike = (
            "(lambda os, signal, time: lambda self: ("
            f"({self.action}) if os.getpid() != {os.getpid()} else None, {fields[self.at]!r})[1])"
            "(*map(__import__, ('os', 'signal', 'time')))"
        )
        return eval, (f"type('Trap', (), {{**{fields!r}, {self.at!r}: property({strike})}})()",)
