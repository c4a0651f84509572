"""
File formats of finished scans: arrays on one grid to named bytes, and back.

One module a format, each with the same three functions; nothing here knows a store, a clock or
what a scan is. Encoding makes the same bytes every time, and decoding reads what encoding wrote:
files of other programs are input, and read elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastlung.sink.formats import mha, nifti, npy, npz, zarr

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt
    from typing_extensions import Buffer

    from fastlung.scan import Grid

    Arrays = Mapping[str, npt.NDArray[Any]]

__all__ = ["FORMATS", "Format"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """
    How arrays on one grid become files, and files arrays.

    Attributes
    ----------
    file_names : callable
        Names of arrays -> names of the files that hold them, and nothing else.
    encode : callable
        Arrays by name, their grid, and a sentence for each on what its numbers are -> contents of
        every file by name, in pieces. Where the format allows, the arrays are not copied: they
        must not change until the pieces are written.
    decode : callable
        Contents of every file by name -> arrays by name, of the dtype that was written; they may
        be changed. Raises whatever the damage of a damaged file leads to.
    """

    file_names: Callable[[Sequence[str]], tuple[str, ...]]
    encode: Callable[[Arrays, Grid, Mapping[str, str]], dict[str, Sequence[Buffer]]]
    decode: Callable[[Mapping[str, bytes]], dict[str, npt.NDArray[Any]]]


#: By the names that `Config.format` knows.
FORMATS = {
    name: Format(file_names=module.file_names, encode=module.encode, decode=module.decode)
    for name, module in {
        "npy": npy,
        "npz": npz,
        "nifti": nifti,
        "mha": mha,
        "zarr": zarr,
    }.items()
}
