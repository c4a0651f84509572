"""
CT series in DICOM files: grouping, geometry, stored words and technical tags.

The only package that knows DICOM. Nothing but an allow-list of technical tags leaves it, in any
form: no names, dates or descriptions, in results, errors, warnings or logs.
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
