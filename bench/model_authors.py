"""
The preprocessing of models as their authors' own packages do it, one function a recipe.

Each takes the path of a NIfTI file and gives the array that goes into the model. Packages are
imported without their ``__init__``, which would import the networks.
"""

import importlib
import importlib.util
import sys
import types
from pathlib import Path

import numpy as np
import torchio
from hydra.utils import instantiate
from monai.bundle import ConfigParser
from monai.transforms import Compose, RandFlipd, SelectItemsd
from omegaconf import OmegaConf

__all__ = ["AUTHORS", "VERSIONS_OF"]

#: Distributions whose versions say what was compared with.
VERSIONS_OF = ("merlin-vlm", "colipri", "spectre-fm", "monai", "torchio", "torch")

#: Of models/vista3d/configs/inference.json in Project-MONAI/model-zoo, at
#: 1a8ac37574bf8294bf5f13d07f3e09aaaf477e9c: its preprocessing, less what concerns prompts and GPUs.
VISTA3D = [
    {"_target_": "LoadImaged", "keys": "image", "image_only": True},
    {"_target_": "EnsureChannelFirstd", "keys": "image"},
    {"_target_": "EnsureTyped", "keys": "image", "track_meta": True},
    {"_target_": "Spacingd", "keys": "image", "pixdim": [1.5, 1.5, 1.5], "mode": "bilinear"},
    {
        "_target_": "CropForegroundd",
        "keys": "image",
        "allow_smaller": True,
        "margin": 10,
        "source_key": "image",
    },
    {
        "_target_": "ScaleIntensityRanged",
        "keys": "image",
        "a_min": -963.8247715525971,
        "a_max": 1053.678477684517,
        "b_min": 0,
        "b_max": 1,
        "clip": True,
    },
    {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
    {"_target_": "CastToTyped", "keys": "image", "dtype": "$torch.float32"},
]


def _without_init(name):
    """Make a package known by its folder only."""
    if name in sys.modules:
        return
    parent, _, last = name.rpartition(".")
    if parent:
        _without_init(parent)
        folder = Path(sys.modules[parent].__path__[0], last)
    else:
        folder = Path(importlib.util.find_spec(name).origin).parent
    package = types.ModuleType(name)
    package.__path__ = [str(folder)]
    sys.modules[name] = package


def _imported(module):
    _without_init(module.rpartition(".")[0])
    return importlib.import_module(module)


def merlin(path):
    """All of ``ImageTransforms``."""
    transforms = _imported("merlin.data.monai_transforms")
    return np.asarray(transforms.ImageTransforms({"image": path})["image"])


def colipri(path):
    """What its processor instantiates from the configuration in the package."""
    configs = Path(importlib.util.find_spec("colipri").origin).parent / "configs"
    config = OmegaConf.load(configs / "config.yaml")
    config.pop("defaults")
    transform = OmegaConf.load(configs / "processor/image_transform/default.yaml")
    merged = OmegaConf.merge(config, {"transform": transform})
    return instantiate(merged.transform)(torchio.ScalarImage(path)).data.numpy()


def spectre(path):
    """
    The first five transforms of its DINO stage, then its ``window_scan``.

    Its ``load_and_window`` has the same steps, and calls MONAI's ``Spacing`` in a way that MONAI
    1.6 refuses.
    """
    windowing = _imported("spectre.windowing")
    stage = _imported("spectre.ssl.transforms.dino_transform").DINOTransform()
    scan = Compose(stage.transforms[:5])({"image": path})["image"].as_tensor()
    return windowing.window_scan(scan, scale_intensity=False)[0].numpy()


def spectre_siglip(path):
    """Its SigLIP stage without a shift, flips and the report."""
    stage = _imported("spectre.ssl.transforms.siglip_transform").SigLIPTransform(
        max_shift=(0, 0, 0)
    )
    kept = [
        transform
        for transform in stage.transforms
        if not isinstance(transform, (RandFlipd, SelectItemsd))
        and type(transform).__module__.startswith("monai.")
    ]
    return np.asarray(Compose(kept)({"image": path})["image"])


def vista3d(path):
    """The bundle's preprocessing, made by MONAI from its configuration."""
    parser = ConfigParser({"imports": ["$import torch"], "steps": VISTA3D})
    return np.asarray(Compose(parser.get_parsed_content("steps"))({"image": path})["image"])


#: Recipe -> its authors' function, and the length of the range of its values.
AUTHORS = {
    "merlin": (merlin, 1.0),
    "colipri": (colipri, 2.0),
    "spectre": (spectre, 1.0),
    "spectre-siglip": (spectre_siglip, 1.0),
    "vista3d": (vista3d, 1.0),
}
