"""
CT series in DICOM files, the only package that knows DICOM.

Nouns: a *slice header* is what one file says; *layout* lets like headers be recognised instead of
parsed; a *series* is a group of slices that form one volume; its *geometry* and *verdict* follow
from positions, its *policy* says what is done about irregular ones; *pixels* are stored words,
decoded by *codecs*. Nothing but an allow-list of technical tags leaves this package, in any form:
no names, dates or descriptions, in results, errors, warnings or logs.
"""

from fastlung.dicom.folder import list_series, read_series
from fastlung.dicom.pixels import load_series
from fastlung.dicom.series import SeriesHeaders, SeriesIndex, index_files, index_series
from fastlung.dicom.slice_header import SliceHeader

__all__ = [
    "SeriesHeaders",
    "SeriesIndex",
    "SliceHeader",
    "index_files",
    "index_series",
    "list_series",
    "load_series",
    "read_series",
]
