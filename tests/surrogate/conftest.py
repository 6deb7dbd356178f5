"""A dataset of the toy chain, and a surrogate after a few steps on it."""

from collections.abc import Callable

import pytest
import torch
from toy_chain import make_dataset, tiny_settings, wobbling_chain

from trajgen.data.store import Dataset
from trajgen.surrogate.checkpoints import load_surrogate
from trajgen.surrogate.sampler import SamplerSettings
from trajgen.surrogate.surrogate import Surrogate
from trajgen.surrogate.train import train_surrogate


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    segments = [wobbling_chain(200, seed) for seed in range(4)]
    segments.append(wobbling_chain(4, 9))  # shorter than a window
    return make_dataset(tmp_path_factory.mktemp("surrogate") / "dataset", segments)


@pytest.fixture(scope="session")
def surrogate(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Surrogate:
    """A surrogate after a few steps: it has learnt little, but nothing in it is zero any more."""
    out = tmp_path_factory.mktemp("surrogate") / "model"
    cpu = torch.device("cpu")
    return load_surrogate(train_surrogate([dataset], out, tiny_settings(20), 1, cpu), cpu)


class Noted(BaseException):
    """What a test raises when it knows enough."""


@pytest.fixture
def first_restart(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], float]:
    """Return what says how far steps go back in the first window that is asked for."""
    asked: list[float] = []

    def noted(_: Surrogate, *arguments: object) -> torch.Tensor:
        (settings,) = (each for each in arguments if isinstance(each, SamplerSettings))
        asked.append(settings.restart or 0.0)
        raise Noted

    def first(generate: Callable[[], object]) -> float:
        with pytest.raises(Noted):
            generate()
        return asked[-1]

    monkeypatch.setattr(Surrogate, "complete", noted)
    return first
