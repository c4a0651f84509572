"""
How a catalogue of EC2 instances is written: families, sizes, prices, and where each was found.

Covers the shape of the file and that no figure stands without a source. What the figures mean is
`fastlung.instances.catalogue`' business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from fastlung.instances.documents import Part

if TYPE_CHECKING:
    from typing import Self

__all__ = [
    "FORMAT",
    "VERSION",
    "CatalogueFile",
    "FamilyEntry",
    "SizeEntry",
    "SourceEntry",
    "StorageEntry",
]

FORMAT, VERSION = "fastlung-instances", 1

Day = Annotated[str, Field(pattern=r"^20\d\d-[01]\d-[0-3]\d$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,30}$")]
Positive = Annotated[float, Field(gt=0, le=1e7)]
Count = Annotated[int, Field(ge=1, le=4096)]


class SourceEntry(Part):
    """Where a figure was found, and how old it is."""

    address: Annotated[str, Field(pattern=r"^\S{4,400}$")]
    date: Day
    says: Annotated[str, Field(max_length=300)] = ""


class SizeEntry(Part):
    """Figures of one size of a family, in the units of the sources."""

    vcpu: Count
    cores: Count | None
    memory_gib: Positive
    baseline_gbps: Positive | None
    burst_gbps: Positive | None
    usd_per_hour: Positive | None


class FamilyEntry(Part):
    """Sizes that share processors and sources."""

    architecture: Literal["x86_64", "arm64"]
    cpu_model: Annotated[str, Field(max_length=120)] | None
    sources: dict[str, str | None]
    sizes: dict[Name, SizeEntry]

    @model_validator(mode="after")
    def every_figure_has_a_source(self) -> Self:
        """Refuse a figure nobody can look up."""
        known = {"architecture", "cpu_model", *SizeEntry.model_fields}
        if unknown := sorted(set(self.sources) - known):
            raise ValueError(f"sources: unknown figure {unknown[0]!r}")
        given = {"architecture"} | ({"cpu_model"} if self.cpu_model else set())
        for size in self.sizes.values():
            given |= {name for name, value in size if value is not None}
        for name in sorted(given):
            if not self.sources.get(name):
                raise ValueError(f"sources: {name} has figures and no source")
        return self


class StorageTier(Part):
    """A price that holds up to so many gigabytes."""

    up_to_gb: Positive | None
    usd: Positive


class StorageEntry(Part):
    """What a bucket costs."""

    source: str
    usd_per_1000_puts: Positive
    usd_per_1000_gets: Positive
    usd_per_gb_month: Annotated[list[StorageTier], Field(min_length=1)]

    @model_validator(mode="after")
    def tiers_ascend(self) -> Self:
        """Refuse tiers that leave a gap at the end, or stand in another order."""
        ends = [tier.up_to_gb for tier in self.usd_per_gb_month]
        whole = [end for end in ends[:-1] if end is not None]
        if ends[-1] is not None or len(whole) != len(ends) - 1 or whole != sorted(set(whole)):
            raise ValueError("usd_per_gb_month: tiers must ascend, and only the last has no end")
        return self


class CatalogueFile(Part):
    """A catalogue as it is written."""

    format: Literal["fastlung-instances"]
    version: Literal[1]
    date: Day
    region: Name
    sources: dict[str, SourceEntry]
    storage: StorageEntry
    families: dict[Name, FamilyEntry]

    @model_validator(mode="after")
    def every_source_is_there(self) -> Self:
        """Refuse the name of a source that the catalogue does not list."""
        for family, entry in self.families.items():
            for name in entry.sources.values():
                if name and name not in self.sources:
                    raise ValueError(f"families.{family}: unknown source {name!r}")
        if self.storage.source not in self.sources:
            raise ValueError(f"storage: unknown source {self.storage.source!r}")
        return self
