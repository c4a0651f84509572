"""Sphinx: MyST pages, numpydoc docstrings, furo."""

from importlib.metadata import version as installed_version

project = "fastlung"
author = "The fastlung authors"
copyright = "2026, The fastlung authors"  # noqa: A001  (Sphinx's name)
version = release = installed_version("fastlung")

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.intersphinx"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "fastlung"
html_static_path = ["_static"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # numpydoc states types, with shapes
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
# Nothing is fetched while building: the pages build without a network.
intersphinx_mapping = {}
