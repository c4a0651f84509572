"""
JSON documents of users (profiles, catalogues), and the schema of a catalogue file.

Covers format and version, reading with limits, and one sentence for whatever is wrong.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fastlung.errors import ConfigError

if TYPE_CHECKING:
    from typing import Self

__all__ = [
    "FORMAT",
    "LARGEST_BYTES",
    "VERSION",
    "CatalogueFile",
    "FamilyEntry",
    "Part",
    "SizeEntry",
    "SourceEntry",
    "StorageEntry",
    "parse_document",
    "read_document",
]


#: No document of ours is a hundredth of this long.
LARGEST_BYTES = 50_000_000


class Part(BaseModel):
    """A part of a document: unchangeable, unknown keys refused, NaN and infinity too."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Model = TypeVar("Model", bound=Part)


def read_document(path: str | Path, model: type[Model], *, form: str, version: int) -> Model:
    """
    Read a document from a file.

    Parameters
    ----------
    path : str or Path
        The file.
    model : type of Part
        What it must be like.
    form : str
        Format that its key ``format`` must name.
    version : int
        What its key ``version`` must be.

    Returns
    -------
    Part
        An instance of `model`.

    Raises
    ------
    ConfigError
        If the file cannot be read, is something else, or holds what cannot be.
    """
    try:
        if Path(path).stat().st_size > LARGEST_BYTES:
            raise ConfigError(f"{path}: too long for a {form} document; give another file")
        text = Path(path).read_text("utf-8", errors="replace")
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise ConfigError(f"{path}: cannot be read ({why}); check the name") from None
    return parse_document(text, str(path), model, form=form, version=version)


def parse_document(text: str, name: str, model: type[Model], *, form: str, version: int) -> Model:
    """
    Check a document.

    Parameters
    ----------
    text : str
        The document.
    name : str
        What it is called in an error.
    model : type of Part
        What it must be like.
    form : str
        Format that its key ``format`` must name.
    version : int
        What its key ``version`` must be.

    Returns
    -------
    Part
        An instance of `model`.

    Raises
    ------
    ConfigError
        If it is something else, or holds what cannot be.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise ConfigError(f"{name}: expected JSON of format {form!r}, this is not JSON") from None
    said = found.get("format") if isinstance(found, dict) else None
    if said != form:
        raise ConfigError(f"{name}: expected a document of format {form!r}, found {said!r}"[:300])
    if found.get("version") != version:
        raise ConfigError(
            f"{name}: version {found.get('version')!r} of format {form!r}, and this fastlung reads "
            f"version {version}; make the document again, or use the fastlung that made it"
        )
    try:
        return model.model_validate(found)
    except ValidationError as error:
        raise ConfigError(f"{name}: {_first_error(error)}") from None


def _first_error(error: ValidationError) -> str:
    first: Any = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    said = first["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    given = repr(first["input"]) if isinstance(first["input"], str | int | float) else ""
    found = f" (found: {given[:80]})" if given else ""
    return f"{where}: {said}{found}" if where else said


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
        """Refuse a figure without a source."""
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
