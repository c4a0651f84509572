"""
Which scans of a sink other revisions than today's have made, and how they are counted.

A resume, `verify`, `status` and the manifest all ask; no one of them mixes two in silence.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastlung.errors import SinkConflictError
from fastlung.revisions import differing, revisions_of
from fastlung.text import count

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastlung.config import RunOptions
    from fastlung.sink.records import Record

__all__ = ["OlderScans", "refuse_mixture"]


@dataclass(slots=True, kw_only=True)
class OlderScans:
    """
    What in a sink is not as today's revisions would make it.

    Attributes
    ----------
    scans : int
        Series, done or failed.
    folders : int
        Source groups without CT.
    revisions : dict
        Of each part that differs, by its name in `fastlung.revisions`: the revisions found.
    now : dict of str to int
        Today's revisions of these parts.
    """

    scans: int = 0
    folders: int = 0
    revisions: dict[str, list[int]] = field(default_factory=dict)
    now: dict[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.scans or self.folders)

    @property
    def newer(self) -> bool:
        """Whether some were made by a version of fastlung that knows more than this one."""
        return any(max(found) > self.now[part] for part, found in self.revisions.items())

    def add(self, record: Record, config: Mapping[str, Any], config_digest: str) -> bool:
        """
        Count a record, if other revisions have made it.

        Parameters
        ----------
        record : Record
            Of the sink.
        config : mapping
            Configuration in force, as `Config` names its fields.
        config_digest : str
            Its digest. What was made with another one, or may fail no more, is done again anyway.

        Returns
        -------
        bool
            Whether other revisions have made it.
        """
        again = any(outcome.transient for outcome in record.outcomes)
        if again or record.config_digest != config_digest:
            return False
        mask, mask_on = config.get("mask", "default"), config.get("mask_on", "flagged")
        now = revisions_of(record.outcomes, mask=mask, mask_on=mask_on)
        found = differing(record.revisions, now)
        for part, (then, today) in found.items():
            self.revisions[part] = sorted({*self.revisions.get(part, ()), then})
            self.now[part] = today
        if found:
            series = sum(outcome.status != "skipped" for outcome in record.outcomes)
            self.scans += series
            self.folders += not series
        return bool(found)

    def __str__(self) -> str:
        """How many they are, and of which revisions."""
        folders = f"{count(self.folders, 'folder')} without CT"
        what = count(self.scans, "scan") if self.scans else folders
        parts = "; ".join(
            f"{part} {' and '.join(map(str, found))}, now {self.now[part]}"
            for part, found in sorted(self.revisions.items())
        )
        return f"{what} of {'other' if self.newer else 'older'} revisions ({parts})"


def refuse_mixture(sink: str, older: OlderScans, options: RunOptions) -> None:
    """
    Let two revisions come together in a sink only where that was asked for.

    Parameters
    ----------
    sink : str
        URL of the sink.
    older : OlderScans
        What other revisions have made there.
    options : RunOptions
        What was said of these.

    Raises
    ------
    SinkConflictError
        If nothing was, or a newer version of fastlung has made them.
    """
    if older.newer:
        raise SinkConflictError(
            f"{sink}: the sink holds {older}, made by a newer fastlung than this one; update "
            "this one, or give another sink"
        )
    if options.redo is None and not options.keep_older:
        raise SinkConflictError(
            f"{sink}: the sink holds {older}, and new ones would not be made alike; --redo "
            "older does these again, --keep-older leaves them as they are and goes on"
        )
