"""How the loops of this room are compiled, and how their cache follows the sources.

Numba stores compiled code beside the source and compiles anew when that file changes, but not when
a function called from another file does, or the options below. Of this folder the one function with
a cache therefore holds a digest of the whole folder in its closure, which is part of the key of its
cache; entries elsewhere call no function of another file.
"""

import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

#: Sums may be reordered and fused; NaN and infinity keep their meaning.
OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"reassoc", "contract", "arcp", "nsz"},
}


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function that other kernels call, as a part of each of them.

    Not inlined it would exist twice in the process that compiles, once by itself and once beside
    its caller, and once in one that reads the cache; both are rounded in another way, and a resumed
    run would not end with the same bytes.
    """
    # Checks of shapes at run time wrap functions; what is compiled is the function itself.
    return numba.njit(forceinline=True, **OPTIONS)(inspect.unwrap(function))


def entry(function: Callable[..., Any]) -> Any:
    """Compile a function that Python calls, and keep the result on disk."""
    return numba.njit(cache=True, **OPTIONS)(inspect.unwrap(function))


def digest_of_sources() -> int:
    """Return a number that changes with any file that is compiled."""
    digest = hashlib.blake2b(digest_size=7)
    # Numbers that are compiled in stand with the network and with the priors.
    others = [Path(__file__).parents[1] / name for name in ("schnet.py", "priors.py")]
    paths = [*Path(__file__).parent.glob("*.py"), *others]
    for path in sorted(paths):
        digest.update(path.read_bytes())
    return int.from_bytes(digest.digest(), "little")
