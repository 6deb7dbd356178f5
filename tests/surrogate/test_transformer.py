"""Laws of the network, with weights that are all set at random so that no path is switched off."""

from dataclasses import replace

import pytest
import torch
from toy_chain import LAG_PS, TOPOLOGY, wobbling_chain

from trajgen.geometry.frames import RigidFrames
from trajgen.geometry.rotations import random_rotations
from trajgen.residues import N_BEAD_TYPES
from trajgen.surrogate import layers
from trajgen.surrogate.encoded_windows import WindowTimes, encode_windows
from trajgen.surrogate.key_frame import pair_features
from trajgen.surrogate.surrogate import Surrogate
from trajgen.surrogate.tokens import channel_count, template_shown
from trajgen.surrogate.transformer import DIMENSIONS, TrajectoryTransformer, WindowInputs


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


def velocity(network: TrajectoryTransformer, *arguments: object) -> torch.Tensor:
    return network(*arguments)[0]


def noisy(seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(4, 6, TOPOLOGY.n_beads, channel_count(0), generator=generator)


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
        first, second = velocity(network, x, T, padded), velocity(network, other, T, padded)
        alone = velocity(network, x[:, :4], T, cut)
    assert torch.allclose(first[:, :4], second[:, :4], atol=1e-5)
    assert torch.allclose(first[:, :4], alone, atol=1e-4)


def test_each_input_reaches_the_answer(network: TrajectoryTransformer, window: WindowInputs):
    x, frames = noisy(), window.reference
    wider = RigidFrames(frames.rotations, 1.1 * frames.origins)
    changes: dict[str, object] = {
        "lag_ps": 2 * window.lag_ps,
        "temperature_K": window.temperature_K + 20,
        "places": 1.3 * window.places,
        "residue_types": window.residue_types.flip(1),
        "known": ~window.known,
        "known_tokens": window.known_tokens + 0.1,
        "template_tokens": window.template_tokens + 0.1,
        "hidden": ~window.hidden,
        "own": ~window.own,
        "reference": wider,
    }
    with torch.no_grad():
        answer = velocity(network, x, T, window)
        found = {
            name: velocity(network, x, T, replace(window, **{name: value}))
            for name, value in changes.items()
        }
        found["time"] = velocity(network, x, T + 0.05, window)
    for name, changed in found.items():
        assert (changed - answer).abs().max() > 1e-4, name


def test_the_template_of_one_of_several_molecules_is_shown_of_unknown_residues_alone():
    """It would tell them from each other."""
    own = torch.tensor([[True, False, True], [False, False, False]])
    nothing = torch.zeros_like(own)
    assert template_shown(own, nothing, alone=True).all()
    assert torch.equal(template_shown(own, nothing, alone=False), ~own)
    hidden = torch.tensor([[False, True, False], [False, False, False]])
    for alone in (True, False):
        shown = template_shown(own, hidden, alone)
        assert shown.tolist() == [[False] * 3, [True] * 3]


def test_the_template_is_zero_where_it_is_not_shown(surrogate: Surrogate):
    positions = torch.from_numpy(wobbling_chain(24, 3)).view(4, 6, -1, 3)
    known = torch.zeros(4, 6, TOPOLOGY.n_beads, dtype=torch.bool)
    known[:, 0, :3] = True
    times = WindowTimes.even(4, 6, LAG_PS, 300.0, torch.device("cpu"))
    for alone in (True, False):
        molecule = replace(surrogate.molecule, alone=alone)
        tokens = encode_windows(positions, known, None, times, molecule).inputs.template_tokens
        assert (tokens[:, 3:] != 0).any()
        assert bool((tokens[:, :3] == 0).all()) != alone


def test_order_of_frames_and_of_residues_matters(
    network: TrajectoryTransformer, window: WindowInputs
):
    x = noisy()
    with torch.no_grad():
        answer = velocity(network, x, T, window)
        frames = velocity(network, x[:, [0, 1, 3, 2, 4, 5]], T, window)[:, [0, 1, 3, 2, 4, 5]]
        residues = velocity(network, x.flip(2), T, window).flip(2)
    assert (frames - answer).abs().max() > 1e-3
    assert (residues - answer).abs().max() > 1e-3


def test_prepared_windows_give_the_same_velocity(
    network: TrajectoryTransformer, window: WindowInputs
):
    with torch.no_grad():
        prepared = network.prepare(window)
        for t in (T, 1 - T):
            assert torch.equal(
                network.velocity(noisy(), t, prepared), velocity(network, noisy(), t, window)
            )


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


@pytest.mark.parametrize(("size", "millions"), [("tiny", 0.4), ("small", 6), ("base", 35)])
def test_sizes_have_the_parameters_that_they_say(size: str, millions: float):
    network = TrajectoryTransformer(DIMENSIONS[size], torsions=7)
    count = sum(weights.numel() for weights in network.parameters())
    assert count == pytest.approx(1e6 * millions, rel=0.15)


def test_what_hidden_residues_are_is_not_told(network: TrajectoryTransformer, window: WindowInputs):
    hidden = torch.zeros_like(window.own)
    hidden[:, 2] = True
    asked = replace(window, hidden=hidden)
    types = window.residue_types.clone()
    types[:, 2] = 7
    with torch.no_grad():
        first = network(noisy(), T, asked)
        second = network(noisy(), T, replace(asked, residue_types=types))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert first[1].shape == (4, TOPOLOGY.n_beads, N_BEAD_TYPES)


def test_padding_does_not_reach_the_types(network: TrajectoryTransformer, window: WindowInputs):
    present = torch.ones(4, 6, dtype=torch.bool)
    present[:, 4:] = False
    x, other = noisy(), noisy()
    other[:, 4:] = 7.0
    with torch.no_grad():
        first, second = (network(v, T, replace(window, present=present))[1] for v in (x, other))
    assert torch.allclose(first, second, atol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_in_bfloat16_is_the_fused_one_with_its_gradients(masked: bool) -> None:
    parts = torch.randn(3, 2, 4, 9, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    mask = None
    if masked:
        mask = torch.ones(2, 1, 1, 9, dtype=torch.bool)
        mask[1, ..., 5:] = False
    by_precision = []
    for given in (parts, parts.float()):
        moving = given.clone().requires_grad_()
        mixed = layers.attend(*moving.unbind(0), mask)
        mixed.square().sum().backward()
        by_precision.append((mixed.float(), moving.grad.float()))
    (ours, our_gradient), (fused, fused_gradient) = by_precision
    assert (ours - fused).norm() < 0.02 * fused.norm()
    assert (our_gradient - fused_gradient).norm() < 0.02 * fused_gradient.norm()


def test_large_attention_in_bfloat16_keeps_no_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = torch.randn(3, 1, 1, 4, 8).bfloat16().requires_grad_()
    monkeypatch.setattr(layers, "_KEPT_SCORES", 15)
    assert "ScaledDotProduct" in type(layers.attend(*parts.unbind(0)).grad_fn).__name__
    monkeypatch.setattr(layers, "_KEPT_SCORES", 16)
    assert "ScaledDotProduct" not in type(layers.attend(*parts.unbind(0)).grad_fn).__name__
