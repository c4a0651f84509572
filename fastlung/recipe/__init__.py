"""
A recipe: the steps from stored words to a model's input, typed, ordered and checked.

Those that come with fastlung are the TOML files beside this one.
"""

__all__ = ["PRESETS"]

#: Names of the recipes that come with fastlung, as they are listed.
PRESETS = (
    "hu",
    "tutorial",
    "grt123",
    "luna16-monai",
    "sybil",
    "lungmask",
    "nnunet-ct",
    "merlin",
    "colipri",
    "spectre",
    "spectre-siglip",
    "vista3d",
    "ct-clip",
    "ct-fm",
    "tap-ct",
)
