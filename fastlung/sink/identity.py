"""
Whether a sink is still the one that a run began with.

A folder may be unmounted under a run, moved, or emptied, and what is mounted there then takes
writes as well. A random id in ``run.json``, kept by every later run, tells one sink from another.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from fastlung.errors import ObjectNotFoundError, SinkLostError

if TYPE_CHECKING:
    from fastlung.storage.base import Store

__all__ = ["RUN_FILE", "RUN_FILE_BYTES", "check_identity", "sink_id_of"]

RUN_FILE = "run.json"
#: Ours has 5 kB.
RUN_FILE_BYTES = 2**22


def sink_id_of(sink: Store) -> str | None:
    """
    Id of a sink; empty where an early version wrote it, or it cannot be understood.

    Returns
    -------
    str or None
        None where there is no sink.

    Raises
    ------
    StoreError
        If it cannot be read.
    """
    try:
        found = json.loads(sink.get(RUN_FILE, first_bytes=RUN_FILE_BYTES))["sink_id"]
    except ObjectNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return found if isinstance(found, str) else ""


def check_identity(sink: Store, sink_id: str) -> None:
    """
    Refuse to go on in another sink than the one with this id.

    Raises
    ------
    SinkLostError
        If it is another, or none.
    StoreError
        If it cannot be read.
    """
    found = sink_id_of(sink)
    if found != sink_id:
        what = f"no {RUN_FILE}" if found is None else f"another one's {RUN_FILE}"
        raise SinkLostError(
            f"sink {sink.url}: expected the sink that this run began, and found {what}; was it "
            "unmounted, moved or emptied? put it back, and type the same command again"
        )
