"""
A segmenter of the user's, command or function, as one kind of callable.

A command gets two paths in a private folder: a NIfTI file to read and one to write. Its output is
not kept, because it may hold anything.
"""

from __future__ import annotations

import importlib
import os
import resource
import shlex
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

from fastlung.errors import ConfigError, SegmenterError
from fastlung.sink.formats import nifti

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from fastlung.config import Config
    from fastlung.scan import Grid

    Segmenter = Callable[[npt.NDArray[np.int16], Grid], Any]

__all__ = ["reference_to", "segmenter_of"]

IMAGE, MASK = "image.nii.gz", "mask.nii.gz"
#: Furthest that a voxel of the mask may lie from that of the image, in millimetres.
APART_MM = 0.01


def segmenter_of(config: Config) -> Segmenter | None:
    """
    Make the segmenter that a configuration names.

    Parameters
    ----------
    config : Config
        With `mask_command` or `mask_function`, or neither.

    Returns
    -------
    callable or None
        From Hounsfield units and grid to labels; None where none is named.

    Raises
    ------
    ConfigError
        If the program or the function cannot be found.
    """
    if config.mask_command is not None:
        program = shlex.split(config.mask_command)[0]
        if shutil.which(program) is None:
            raise ConfigError(
                f"mask_command: no program {program} here; give its path, or install it on every "
                "machine that runs this"
            )
        return partial(_run, config.mask_command, config.mask_timeout_seconds)
    if config.mask_function is not None:
        return _found(config.mask_function)
    return None


def reference_to(function: Callable[..., Any] | str) -> str:
    """
    Name a function so that another process finds it.

    Parameters
    ----------
    function : callable or str
        Defined at the top of a module that can be imported; or already such a name.

    Returns
    -------
    str
        ``package.module:name``.

    Raises
    ------
    ConfigError
        If another process could not find it.
    """
    if isinstance(function, str):
        return function
    module = getattr(function, "__module__", "__main__")
    name = getattr(function, "__qualname__", "<nameless>")
    if module == "__main__" or "<" in name:
        raise ConfigError(
            f"mask_function {name} cannot be found by a worker process; define it at the top of a "
            "module that can be imported, and give that"
        )
    return f"{module}:{name}"


def _found(reference: str) -> Segmenter:
    module, _, name = reference.partition(":")
    try:
        function: Any = importlib.import_module(module)
    except (ImportError, ValueError):
        raise ConfigError(
            f"mask_function {reference}: expected package.module:name, and no module {module!r} "
            "can be imported; install it, or name its folder in PYTHONPATH (the current one is not "
            "searched)"
        ) from None
    for part in name.split("."):
        function = getattr(function, part, None)
    if not callable(function):
        raise ConfigError(
            f"mask_function {reference}: expected package.module:name, and {module} has no "
            f"function {name!r}"
        )
    segmenter: Segmenter = function
    return segmenter


def _run(
    command: str, timeout_seconds: float, hu: npt.NDArray[np.int16], grid: Grid
) -> npt.NDArray[Any]:
    """Labels that a command finds in a volume."""
    with tempfile.TemporaryDirectory(prefix="fastlung-") as folder:  # readable by us alone
        image, mask = Path(folder) / IMAGE, Path(folder) / MASK
        with image.open("wb") as stream:
            stream.writelines(nifti.encode({"image": hu}, grid, {"image": "HU"})[IMAGE])
        paths = {"image": str(image), "mask": str(mask)}
        words = [
            word.replace("{image}", paths["image"]).replace("{mask}", paths["mask"])
            for word in shlex.split(command)
        ]
        _wait_for(words, timeout_seconds)
        if not mask.is_file():
            raise SegmenterError("the command ended well and wrote no {mask}")
        return _labels(mask, grid)


def _wait_for(words: list[str], timeout_seconds: float) -> None:
    try:
        process = subprocess.Popen(  # noqa: S603 - what the user has asked for, without a shell
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise SegmenterError(
            f"the command cannot be started ({os.strerror(error.errno or 0)})"
        ) from None
    try:
        # A worker limits its own memory; a network may need more address space than that.
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        resource.prlimit(process.pid, resource.RLIMIT_AS, (most, most))
        code = process.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        raise SegmenterError(f"the command took longer than {timeout_seconds:g} s") from None
    except ProcessLookupError:  # it ended before its limit could be set
        code = process.wait()
    finally:
        _end(process)
    if code:
        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        raise SegmenterError(f"the command failed ({cause}); try it on one scan by hand")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the command and all that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _labels(mask: Path, grid: Grid) -> npt.NDArray[Any]:
    try:
        image = nib.Nifti1Image.from_filename(mask)
        labels = np.asarray(image.dataobj).T
    except Exception as error:  # noqa: BLE001 - nibabel raises what it meets
        raise SegmenterError(
            f"the command's {{mask}} is no NIfTI file that can be read ({type(error).__name__})"
        ) from None
    if labels.shape == grid.shape:
        last = np.subtract(grid.shape, 1)[::-1]
        ends = np.array([[0, 0, 0, 1], [*last, 1]]).T
        apart_mm = float(np.abs((image.affine - grid.affine_ras) @ ends).max())
        if apart_mm > APART_MM:
            raise SegmenterError(
                f"the command's {{mask}} lies up to {apart_mm:.2f} mm from the image; it must keep "
                "the grid that it was given"
            )
    return labels
