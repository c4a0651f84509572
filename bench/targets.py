"""What was set out to be reached, and what stops us where it is not."""

from dataclasses import dataclass

__all__ = ["CORES_AT_LEAST", "CORES_LIMIT", "LIMITS", "TARGETS", "Target"]


@dataclass(frozen=True, slots=True)
class Target:
    """
    One ratio to reach.

    Attributes
    ----------
    job, rival : str
        As in the table of comparisons; of `rival` the beginning.
    at_least : float
        How many times the rival's CPU seconds are ours.
    """

    job: str
    rival: str
    at_least: float


TARGETS = (
    Target("resample cubic", "scipy", 80),
    Target("resample cubic", "SimpleITK", 60),
    Target("resample linear", "scipy", 15),
    Target("resample linear", "SimpleITK", 7),
    Target("resample linear", "TorchIO", 1),
    Target("resample linear", "MONAI", 1),
    Target("tutorial mask", "scikit-image", 80),
    Target("threshold and label, 26 neighbours", "connected-components-3d", 8),
    Target("threshold and label, 26 neighbours", "scipy", 6),
    Target("read and HU", "pydicom", 5),
    Target("read and HU", "SimpleITK", 3),
    Target("read and HU, JPEG Lossless", "pydicom", 2),
    Target("read and HU, JPEG-LS", "pydicom", 1),
    Target("read and HU, RLE", "pydicom", 3),
    Target("whole scan, cubic", "the tutorial", 50),
    Target("whole scan, linear", "SimpleITK", 5),
)
#: Scans a second of two workers over those of one.
CORES_AT_LEAST = 1.9
#: What keeps two cores from doing twice the work of one, whatever runs on them.
CORES_LIMIT = (
    "The two cores of the amd-epyc virtual machine are not two whole ones: five pairs of runs each "
    "of a plain Python loop, of a NumPy square root in cache, and of a copy of 80 MB did 1.31 to "
    "1.60, 1.84 to 2.02 and 1.81 to 2.13 times the work of one process on one core, with nothing "
    "else running."
)

#: By job: where the time goes, and what was tried. Times are CPU seconds of the synthetic scan.
LIMITS = {
    "threshold and label, 26 neighbours": (
        "0.010 s for 39 million voxels: 0.0026 s compare 78 MB that come from memory at 30 GB/s, "
        "0.0018 s find 250,000 runs, 0.0008 s turn them into words again, 0.0043 s label. Eight "
        "times would leave 0.008 s for all. Labelling is bound by branches: one union for each "
        "block and neighbouring row that touch, about 250,000, whose number in a word no processor "
        "predicts. The noisy scan has 385,000 runs and 120,000 blocks, and takes 0.007 s to label "
        "where connected-components-3d, which walks voxels, takes no longer than for a smooth one. "
        "Tried: walking two rows of runs side by side (0.0068 s; noisy 0.019 s); views of each row "
        "of words made anew (0.010 s); passing over words that are all mask or all empty (0.0001 s "
        "less); one loop for touching and diagonal voxels instead of three (0.0002 s less, kept)."
    ),
    "whole scan, cubic": (
        "Of 0306 the rival makes a whole in 10 s, so that fifty times leaves 0.2 s. The default "
        "mask alone takes 0.12 s of it: it does more than the tutorial's (airways out, sides told "
        "apart, dense regions taken in, a confidence), which takes 0.04 s here. Resampling takes "
        "0.06 s, reading 0.02 to 0.03 s, and writing 92 MB into the page cache 0.04 s, which is "
        "the kernel's. The synthetic scan has more slices to resample and less noise to label; on "
        "this shared machine it came out at 55 times and, hours later, at 35 times."
    ),
    "whole scan, linear": (
        "Writing 118 MB into the page cache takes both the same 0.05 s, and the default mask does "
        "more than the rival's (airways out, sides told apart, confidence): it alone takes about "
        "as long as reading and resampling together."
    ),
    "read and HU": (
        "Half is the kernel's: 94 MB copied out of the page cache, and as many bytes of pages "
        "cleared twice, for words and for HU. Headers take 0.04 ms a slice, of which opening, "
        "reading and closing a file twice are half."
    ),
}
