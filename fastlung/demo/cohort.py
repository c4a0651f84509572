"""
Six synthetic CT series on disk, each with something real scanners do.

`write_cohort` is what ``fastlung demo`` processes. Every byte follows from the seed, UIDs included,
so that a demo run again meets the same files. It covers writing; drawing is `phantom`'s.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RLELossless

from fastlung.demo.phantom import Phantom, phantom

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import numpy.typing as npt

__all__ = ["COHORT", "DemoScan", "write_cohort"]

RESCALE_INTERCEPT_HU = -1024
#: What scanners store outside the circle they reconstruct; -3024 HU with the intercept above.
PADDING_STORED = -2000
#: What the files of a cohort are called.
OWN_FILES = "IM" + 8 * "[0-9a-f]" + ".dcm"


def _every_slice(_number: int, _count: int) -> bool:
    return True


def _two_missing(number: int, count: int) -> bool:
    return number not in (count // 2, count // 2 + 1)


def _sparse_upper_half(number: int, count: int) -> bool:
    """Of slices drawn twice as close: every second in the lower half, every third above."""
    step = 2 if number < count // 2 else 3
    return (number - count // 2) % step == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoScan:
    """
    How one series of the cohort departs from a plain one.

    Attributes
    ----------
    name : str
        Folder of the series.
    story : str
        What is special about it, in a sentence.
    keep : callable
        ``keep(number, count)``: whether this of the slices drawn, from the feet, is written.
    slices_per_step : int
        Slices drawn for each step of the spacing asked for.
    columns_per_row : float
        Row spacing over column spacing; 1 is square pixels.
    repeated : bool
        Whether the middle slice lies there twice, the copy under another file name.
    padded : bool
        Whether everything outside the inscribed circle is padding.
    compressed : bool
        Whether pixels are RLE Lossless rather than plain words.
    numbered : bool
        Whether InstanceNumber follows the slices; otherwise it is shuffled.
    stomach_gas_litres : float
        Gas in the stomach, in litres.
    """

    name: str
    story: str
    keep: Callable[[int, int], bool] = _every_slice
    slices_per_step: int = 1
    columns_per_row: float = 1.0
    repeated: bool = False
    padded: bool = False
    compressed: bool = False
    numbered: bool = True
    stomach_gas_litres: float = 0.0


#: The cohort, in the order of its folders.
COHORT: tuple[DemoScan, ...] = (
    DemoScan(name="patient-01", story="a plain series, file names shuffled"),
    DemoScan(name="patient-02", story="one slice lies there twice, under two names", repeated=True),
    DemoScan(name="patient-03", story="two slices are missing in the middle", keep=_two_missing),
    DemoScan(
        name="patient-04", story="padding of -3024 HU around the reconstructed circle", padded=True
    ),
    DemoScan(
        name="patient-05",
        story="RLE compressed, oblong pixels, instance numbers shuffled",
        columns_per_row=1.25,
        compressed=True,
        numbered=False,
    ),
    DemoScan(
        name="patient-06",
        story="slices lie further apart in the upper half; gas in the stomach",
        keep=_sparse_upper_half,
        slices_per_step=2,
        stomach_gas_litres=0.3,
    ),
)


def write_cohort(
    folder: Path,
    *,
    shape: tuple[int, int, int] = (60, 160, 160),
    spacing_mm: tuple[float, float, float] = (4.0, 2.0, 2.0),
    seed: int = 0,
    scans: Iterable[DemoScan] = COHORT,
) -> int:
    """
    Write a cohort, one folder a series.

    Parameters
    ----------
    folder : Path
        Made if it is not there. Slices of another cohort in it are written over or removed.
    shape : tuple of int
        Slices, rows and columns of every series before slices are left out.
    spacing_mm : tuple of float
        Distance between slices, rows and columns, in millimetres.
    seed : int
        Decides every chest, noise and UID.
    scans : iterable of DemoScan
        What to write.

    Returns
    -------
    int
        Bytes written.
    """
    written = 0
    for scan in scans:
        chest = phantom(
            (
                shape[0] * scan.slices_per_step,
                shape[1],
                round(shape[2] * scan.columns_per_row),
            ),
            (
                spacing_mm[0] / scan.slices_per_step,
                spacing_mm[1],
                spacing_mm[2] / scan.columns_per_row,
            ),
            seed=int(_digest(seed, scan.name)[:8], 16),
            stomach_gas_litres=scan.stomach_gas_litres,
        )
        target = folder / scan.name
        target.mkdir(parents=True, exist_ok=True)
        stale = set(target.glob(OWN_FILES))
        for file_name, dataset in _files(scan, chest, seed):
            path = target / file_name
            dataset.save_as(path, enforce_file_format=True)
            written += path.stat().st_size
            stale.discard(path)
        for path in stale:
            path.unlink()
    return written


def _files(scan: DemoScan, chest: Phantom, seed: int) -> Iterable[tuple[str, Dataset]]:
    """File names and data sets; the names sort in no useful order."""
    count = chest.grid.shape[0]
    numbers = np.arange(1, count + 1)
    if not scan.numbered:
        numbers = np.random.default_rng(seed).permutation(numbers)
    stored = _stored(chest, padded=scan.padded)
    for number in range(count):
        if not scan.keep(number, count):
            continue
        dataset = _series_dataset(scan, chest, seed)
        dataset.file_meta.MediaStorageSOPInstanceUID = _uid(seed, scan.name, f"slice {number}")
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
        dataset.InstanceNumber = int(numbers[number])
        x_mm, y_mm, z_mm = chest.grid.to_patient((number, 0, 0))
        dataset.ImagePositionPatient = [float(x_mm), float(y_mm), float(z_mm)]
        dataset.PixelData = stored[number].tobytes()
        if scan.compressed:
            dataset.compress(RLELossless, generate_instance_uid=False)
        yield f"IM{_digest(seed, scan.name, number)[:8]}.dcm", dataset
        if scan.repeated and number == count // 2:
            yield f"IM{_digest(seed, scan.name, number, 'copy')[:8]}.dcm", dataset


def _stored(chest: Phantom, *, padded: bool) -> npt.NDArray[np.int16]:
    stored = (chest.hu - RESCALE_INTERCEPT_HU).astype("<i2")
    if padded:
        _, rows, columns = chest.grid.shape
        y, x = np.ogrid[:rows, :columns]
        circle = ((2 * y + 1) / rows - 1) ** 2 + ((2 * x + 1) / columns - 1) ** 2 <= 1
        stored[:, ~circle] = PADDING_STORED
    return stored


def _series_dataset(scan: DemoScan, chest: Phantom, seed: int) -> Dataset:
    """Everything but what differs from slice to slice."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    spacing_mm = chest.grid.spacing_mm
    values: dict[str, Any] = {
        "SOPClassUID": CTImageStorage,
        "StudyInstanceUID": _uid(seed, scan.name, "study"),
        "SeriesInstanceUID": _uid(seed, scan.name, "series"),
        "FrameOfReferenceUID": _uid(seed, scan.name, "frame of reference"),
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "Modality": "CT",
        "Manufacturer": "fastlung demo",
        # A name and an id that must turn up in nothing fastlung writes.
        "PatientName": f"Phantom^{scan.name}",
        "PatientID": f"DEMO-{scan.name}",
        "PatientPosition": "HFS",
        "SliceThickness": spacing_mm[0] * scan.slices_per_step,
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [spacing_mm[1], spacing_mm[2]],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": chest.grid.shape[1],
        "Columns": chest.grid.shape[2],
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 1,
        "RescaleIntercept": RESCALE_INTERCEPT_HU,
        "RescaleSlope": 1,
        "RescaleType": "HU",
    }
    if scan.padded:
        values["PixelPaddingValue"] = PADDING_STORED
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _uid(*parts: object) -> str:
    """Make a UID under 2.25, where any 128-bit number may stand."""
    return f"2.25.{int(_digest(*parts)[:32], 16)}"
