"""
Which revision of fastlung's own work a record was made by.

The configuration digest knows options only. A fix may change voxels or verdicts under the same
options; it raises one of the three numbers here, and every record carries those that had a hand in
it. So a sink that was begun before the fix can be told from one that was begun after it.

Each is raised by one in the release that changes what it stands for, with a line in CHANGELOG.md.
0.1.0 wrote none: everything of it counts as revision 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fastlung.scan import Outcome

__all__ = ["GROUPING", "MASK", "PIXELS", "differing", "revisions_of"]

#: Raised when files may come together as other series, or slices or voxels lie elsewhere, or a
#: verdict, an action or a refusal for the geometry changes; DICOM, MetaImage and NIfTI alike.
GROUPING = 1
#: Raised when the same series at the same places may become other voxels: decoding, Hounsfield
#: units, interpolation, crop, window; or when what could not be decoded now can.
PIXELS = 1
#: Raised when the default mask may have other voxels, or its flags, litres or confidence change.
#: The masks of the presets `tutorial` and `grt123` are other people's, and frozen.
MASK = 1


def revisions_of(outcomes: Iterable[Outcome], *, mask: str, mask_on: str) -> dict[str, int]:
    """
    Today's revisions of what makes such outcomes.

    Parameters
    ----------
    outcomes : iterable of Outcome
        Of one source group; status and flags count.
    mask, mask_on : str
        As in `Config`, of the run that makes them.

    Returns
    -------
    dict
        ``grouping`` always; ``pixels`` where there was a series at all; ``mask`` where the default
        mask was made and had a say: not with another mask or none, nor where an outside segmenter
        is asked about every scan and answered.
    """
    outcomes = tuple(outcomes)
    now = {"grouping": GROUPING}
    if any(outcome.status != "skipped" for outcome in outcomes):
        now["pixels"] = PIXELS
    if mask == "default" and any(_masked_by_default(outcome, mask_on) for outcome in outcomes):
        now["mask"] = MASK
    return now


def _masked_by_default(outcome: Outcome, mask_on: str) -> bool:
    # Where a segmenter is asked about flagged scans only, the default mask decides which these are.
    replaced = mask_on == "all" and any(flag.name == "mask_replaced" for flag in outcome.flags)
    return outcome.status == "done" and not replaced


def differing(recorded: Mapping[str, int], now: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """
    Compare the revisions of a record with today's.

    Parameters
    ----------
    recorded : mapping of str to int
        What the record carries; what it lacks counts as 0.
    now : mapping of str to int
        From `revisions_of`.

    Returns
    -------
    dict
        Name -> (recorded, now), where they are not the same.
    """
    pairs = {name: (recorded.get(name, 0), revision) for name, revision in now.items()}
    return {name: (then, today) for name, (then, today) in pairs.items() if then != today}
