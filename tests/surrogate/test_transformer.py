"""Laws of the network, with weights that are all set at random so that no path is switched off."""

from dataclasses import replace

import pytest
import torch
from toy_chain import LAG_PS, TOPOLOGY, wobbling_chain

from trajgen.geometry.frames import RigidFrames
from trajgen.geometry.rotations import random_rotations
from trajgen.surrogate.key_frame import pair_features
from trajgen.surrogate.surrogate import Surrogate, WindowTimes, encode_windows
from trajgen.surrogate.transformer import TrajectoryTransformer, WindowInputs


@pytest.fixture(scope="module")
def network(surrogate: Surrogate) -> TrajectoryTransformer:
    generator = torch.Generator().manual_seed(0)
    network = TrajectoryTransformer(surrogate.network.dimensions, 0)
    with torch.no_grad():
        for weights in network.parameters():
            weights.copy_(0.1 * torch.randn(weights.shape, generator=generator))
    return network.eval()


@pytest.fixture
def window(surrogate: Surrogate) -> WindowInputs:
    positions = torch.from_numpy(wobbling_chain(24, 3)).view(4, 6, -1, 3)
    known = torch.zeros(4, 6, TOPOLOGY.n_beads, dtype=torch.bool)
    known[:, 0] = True
    times = WindowTimes.even(4, 6, LAG_PS, 300.0, torch.device("cpu"))
    return encode_windows(positions, known, None, times, surrogate.molecule).inputs


def noisy(seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(4, 6, TOPOLOGY.n_beads, 9, generator=generator)


T = torch.linspace(0.1, 0.9, 4)


def test_padding_does_not_reach_present_frames(
    network: TrajectoryTransformer, window: WindowInputs
):
    present = torch.ones(4, 6, dtype=torch.bool)
    present[:, 4:] = False
    padded = replace(window, present=present)
    x, other = noisy(), noisy()
    other[:, 4:] = 7.0
    cut = replace(
        window,
        known_tokens=window.known_tokens[:, :4],
        known=window.known[:, :4],
        places=window.places[:, :4],
        present=None,
    )
    with torch.no_grad():
        first, second = network(x, T, padded), network(other, T, padded)
        alone = network(x[:, :4], T, cut)
    assert torch.allclose(first[:, :4], second[:, :4], atol=1e-5)
    assert torch.allclose(first[:, :4], alone, atol=1e-4)


def test_each_input_reaches_the_answer(network: TrajectoryTransformer, window: WindowInputs):
    x = noisy()
    with torch.no_grad():
        answer = network(x, T, window)
        changes = {
            "time": network(x, T + 0.05, window),
            "lag": network(x, T, replace(window, lag_ps=2 * window.lag_ps)),
            "temperature": network(x, T, replace(window, temperature_K=window.temperature_K + 20)),
            "places": network(x, T, replace(window, places=1.3 * window.places)),
            "types": network(x, T, replace(window, residue_types=window.residue_types.flip(0))),
            "mask": network(x, T, replace(window, known=~window.known)),
            "known": network(x, T, replace(window, known_tokens=window.known_tokens + 0.1)),
            "template": network(
                x, T, replace(window, template_tokens=window.template_tokens + 0.1)
            ),
            "own": network(x, T, replace(window, own=~window.own)),
            "key frame": network(
                x,
                T,
                replace(
                    window,
                    reference=RigidFrames(
                        window.reference.rotations, 1.1 * window.reference.origins
                    ),
                ),
            ),
        }
    for name, changed in changes.items():
        assert (changed - answer).abs().max() > 1e-4, name


def test_order_of_frames_and_of_residues_matters(
    network: TrajectoryTransformer, window: WindowInputs
):
    x = noisy()
    with torch.no_grad():
        answer = network(x, T, window)
        frames = network(x[:, [0, 1, 3, 2, 4, 5]], T, window)[:, [0, 1, 3, 2, 4, 5]]
        residues = network(x.flip(2), T, window).flip(2)
    assert (frames - answer).abs().max() > 1e-3
    assert (residues - answer).abs().max() > 1e-3


def test_prepared_windows_give_the_same_velocity(
    network: TrajectoryTransformer, window: WindowInputs
):
    with torch.no_grad():
        prepared = network.prepare(window)
        for t in (T, 1 - T):
            assert torch.equal(network.velocity(noisy(), t, prepared), network(noisy(), t, window))


def test_what_residues_see_of_each_other_does_not_change_under_rotation():
    generator = torch.Generator().manual_seed(0)
    frames = RigidFrames(
        random_rotations(12, generator).view(2, 6, 3, 3), torch.randn(2, 6, 3, generator=generator)
    )
    turn = random_rotations(2, generator)[:, None]
    moved = RigidFrames(
        turn @ frames.rotations, (turn @ frames.origins[..., None]).squeeze(-1) + 0.5
    )
    assert torch.allclose(pair_features(frames), pair_features(moved), atol=1e-5)
