"""Fixtures for all tests."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
from jaxtyping import config

# The models of the tests are too small for more than one thread.
os.environ.setdefault("TRAJGEN_THREADS", "1")

# No test asserts a time, and a failure must come back when the test is run again.
hypothesis.settings.register_profile("house", deadline=None, derandomize=True)
hypothesis.settings.load_profile("house")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of reference data beside the checkout, or skip where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"reference data folder {SHARED_DATA} is absent")
    return SHARED_DATA


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # tests run side by side; threads that wait for each other are slow


@pytest.fixture
def no_shape_checks() -> Iterator[None]:
    """Switch run-time shape checks off, as for a user, so that the package's own errors show."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a tiny dataset and models of it (``tiny.Made``), made through the commands."""
    from tiny import make  # late: the package must be imported after its shape checks are set up

    return make(tmp_path_factory.mktemp("made"))
