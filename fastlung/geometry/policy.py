"""What is done about irregular series: the `Policy`, a named option each."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from fastlung.errors import ConfigError

if TYPE_CHECKING:
    from fastlung.config import Config

__all__ = ["CHOICES", "Policy"]

#: What each policy may be; the first is the default.
CHOICES = {
    "on_gap": ("interpolate", "nearest", "split", "fail"),
    "on_duplicate": ("drop-identical", "first", "split", "fail"),
    "on_tilt": ("shear", "keep", "fail"),
    "on_variable_spacing": ("true-positions", "fail"),
    "on_mixed_orientation": ("largest", "split", "fail"),
    "on_frame_of_reference": ("join", "split"),
    "on_series_uid": ("fail", "join"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """
    What is done about irregular series. The defaults rescue what can be rescued without guessing.

    Attributes
    ----------
    on_gap : str
        Slices missing from an even row. ``interpolate`` across at true positions; ``nearest``: the
        nearest slice up to the middle of the gap, nothing interpolated across it; ``split`` into
        series without gaps; ``fail``.
    on_duplicate : str
        Several slices at one position, or acquisitions whose slices lie between one another.
        ``drop-identical``: repeats are left out, different acquisitions become series of their
        own, anything else is refused; ``first``: the same, and of what no acquisition tells apart
        the lowest instance number is kept; ``split``: that is dealt out by instance number;
        ``fail``: any repeat is refused.
    on_tilt : str
        Slices displaced in their plane, by a tilted gantry or a moved centre. ``shear``: each slice
        counts where it lies; ``keep``: stacked as if straight above one another; ``fail``.
    on_variable_spacing : str
        Steps of several sizes. ``true-positions``: interpolated where they lie; ``fail``.
    on_mixed_orientation : str
        Slices of several orientations in one series. ``largest``: the most slices are kept, if it
        is clear which; ``split``: each orientation is a series; ``fail``.
    on_frame_of_reference : str
        FrameOfReferenceUID or StudyInstanceUID another in each file of one even row. ``join``: an
        exporter has made them anew, and they are one series; ``split`` as they say.
    on_series_uid : str
        SeriesInstanceUID another in each file, where they make one even row. ``fail``: refused as
        one, with the reason; ``join``: read as one series.
    min_slices : int
        Fewest slices that make a volume. A single slice takes its thickness for its step.
    force : bool
        Take files without the DICOM preamble or file meta, too.
    """

    on_gap: str = "interpolate"
    on_duplicate: str = "drop-identical"
    on_tilt: str = "shear"
    on_variable_spacing: str = "true-positions"
    on_mixed_orientation: str = "largest"
    on_frame_of_reference: str = "join"
    on_series_uid: str = "fail"
    min_slices: int = 3
    force: bool = False

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ConfigError(
                    f"{name} is {getattr(self, name)!r}; expected one of {', '.join(known)}"
                )
        if self.min_slices < 1:
            raise ConfigError(f"min_slices is {self.min_slices}; expected at least 1")

    @classmethod
    def of(cls, config: Config) -> Policy:
        """Take the policy out of a configuration."""
        return cls(**{one.name: getattr(config, one.name) for one in fields(cls)})
