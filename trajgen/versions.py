"""Which software made something."""

import platform
from importlib.metadata import version

from trajgen import __version__

_PACKAGES = ("torch", "numpy", "scipy", "mdtraj", "deeptime", "openmm")


def versions(*more: str) -> dict[str, str]:
    """Return the versions of this package, of Python and of what numbers depend on."""
    packages = {name: version(name) for name in (*_PACKAGES, *more)}
    return {"trajgen": __version__, "python": platform.python_version(), **packages}
