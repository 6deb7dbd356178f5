"""The committee: the mean of plain networks, and members that do not touch each other."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
import yaml
from potential_molecules import grow_chains
from safetensors.torch import load_file, save_file

from trajgen.files import read_json, sha256_of, write_json
from trajgen.potential import committee as committee_module
from trajgen.potential import schnet
from trajgen.potential.batches import Pool, batch_of_members
from trajgen.potential.committee import Committee, MemberPass, disagreement_of
from trajgen.potential.energy import energy_and_forces
from trajgen.potential.potential import Potential
from trajgen.potential.schnet import CGSchNet

CPU = torch.device("cpu")


@pytest.fixture
def of_three(make_potential: Callable[..., Potential]) -> Potential:
    """Return a potential with three members and fitted priors, in float64."""
    return make_potential(committee=3)


@pytest.mark.parametrize("batched_frames", [0, 100])
@pytest.mark.parametrize("tensor_size", [1, 10**9])
def test_energy_is_the_mean_of_plain_networks(
    of_three, chains, monkeypatch, batched_frames, tensor_size
):
    monkeypatch.setattr(committee_module, "CPU_BATCHED_FRAMES", batched_frames)
    monkeypatch.setattr(committee_module, "CPU_TENSOR_SIZE", tensor_size)
    networks = of_three.member_networks()
    assert all(isinstance(network, CGSchNet) for network in networks)
    alone = torch.stack([network(chains) for network in networks])
    assert alone.std(dim=0).min() > 1e-3  # members differ
    prior = of_three.priors(chains)
    torch.testing.assert_close(of_three.member_energies(chains), prior + alone)
    torch.testing.assert_close(of_three(chains), prior + alone.mean(dim=0))
    forces = torch.stack([energy_and_forces(network, chains)[1] for network in networks])
    expected = forces + energy_and_forces(of_three.priors, chains)[1]
    torch.testing.assert_close(of_three.member_forces(chains), expected)
    torch.testing.assert_close(of_three.energy_and_forces(chains)[1], expected.mean(dim=0))


@pytest.mark.parametrize(("batched_frames", "intervals"), [(0, 10**6), (100, 10**6), (0, 3)])
def test_each_member_has_frames_and_gradients_of_its_own(
    of_three, monkeypatch, batched_frames, intervals
):
    """Members take turns, or are batched, or take turns with filters from tables."""
    monkeypatch.setattr(committee_module, "CPU_BATCHED_FRAMES", batched_frames)
    monkeypatch.setattr(schnet, "INTERVALS_PER_FUNCTION", intervals)
    tabulated = []
    real = schnet.tabulated_messages

    def counted(*arguments: object, **named: object) -> torch.Tensor:
        tabulated.append(arguments)
        return real(*arguments, **named)

    monkeypatch.setattr(schnet, "tabulated_messages", counted)
    own = torch.from_numpy(grow_chains(6, 6, seed=5)).reshape(3, 2, 6, 3)
    forces, energies = MemberPass(of_three.network).train()(own, own[0])
    assert bool(tabulated) == (intervals == 3)
    networks = of_three.member_networks()
    for member, (network, energy) in enumerate(zip(networks, energies, strict=True)):
        alone = partial(network, tabulated=bool(tabulated))
        torch.testing.assert_close(energy, alone(own[0]))
        torch.testing.assert_close(forces[member], energy_and_forces(alone, own[member])[1])
    forces[1].square().sum().backward()
    for member, network in enumerate(networks):
        for name, weight in network.named_parameters():
            touched = weight.grad is not None and bool(weight.grad.abs().max() > 0)
            assert touched == (member == 1), (member, name)


def test_without_members_the_priors_are_alone(make_potential, chains):
    one = make_potential()
    none = Potential(one.settings.model_copy(update={"committee": 0}))
    none.priors = one.priors
    for mine, theirs in zip(
        none.energy_and_forces(chains), energy_and_forces(one.priors, chains), strict=True
    ):
        torch.testing.assert_close(mine, theirs)
    assert none.member_energies(chains).shape == (0, 5)
    assert none.member_networks() == []


def test_disagreement_is_that_of_a_loop_over_beads(of_three, chains):
    forces = of_three.member_forces(chains).numpy()
    found = of_three.disagreement(chains)
    for frame in range(len(chains)):
        spreads = []
        for bead in range(6):
            away = forces[:, frame, bead] - forces[:, frame, bead].mean(axis=0)
            spreads.append(np.sqrt((away**2).sum(axis=1).mean()))
        assert found.rms[frame].item() == pytest.approx(np.sqrt(np.mean(np.square(spreads))))
        assert found.largest[frame].item() == pytest.approx(max(spreads))
    assert (found.largest > found.rms).all()
    assert found.reason is None


def test_disagreement_of_known_forces():
    forces = torch.zeros(2, 1, 4, 3)
    forces[0, 0, 2, 1], forces[1, 0, 2, 1] = 3.0, -5.0  # spread 4 on one of four beads
    found = disagreement_of(forces)
    assert found.largest.tolist() == [4.0]
    assert found.rms.tolist() == [2.0]
    same = disagreement_of(forces[:1].expand(3, -1, -1, -1))
    assert same.largest.tolist() == [0.0]


def test_disagreement_does_not_depend_on_frames_around_or_rotation(of_three, chains):
    whole = of_three.disagreement(chains)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(of_three.disagreement(chains[order]).rms, whole.rms[order])
    turn, _ = torch.linalg.qr(torch.tensor([[1.0, 2, 0], [0, 1, 3], [2, 0, 1]]).double())
    turn = turn * torch.linalg.det(turn)  # a proper rotation
    torch.testing.assert_close(of_three.disagreement(chains @ turn.T).largest, whole.largest)


def test_many_frames_are_taken_in_parts(of_three, chains, monkeypatch):
    energies, forces = of_three.member_energies(chains), of_three.member_forces(chains)
    sizes = []
    network = of_three.network
    whole = network.member_energies

    def counted(frames: torch.Tensor) -> torch.Tensor:
        sizes.append(frames.shape[1])
        return whole(frames)

    monkeypatch.setattr(network, "member_energies", counted)
    monkeypatch.setattr("trajgen.potential.energy.EVALUATION_BATCH", 2)
    torch.testing.assert_close(of_three.member_energies(chains), energies)
    torch.testing.assert_close(of_three.member_forces(chains), forces)
    assert sizes == [2, 2, 1] * 2


def test_one_network_has_no_disagreement_and_says_why(make_potential, chains):
    found = make_potential().disagreement(chains)
    assert found.rms is None
    assert found.largest is None
    assert "takes two or more" in found.reason


def test_a_committee_comes_back_as_it_was(of_three, tmp_path):
    of_three.save(tmp_path / "out", {})
    loaded = Potential.load(tmp_path / "out", CPU)
    x = torch.from_numpy(grow_chains(3, 6, seed=4)).float()
    expected = of_three.member_energies(x.double()).float()
    torch.testing.assert_close(loaded.member_energies(x), expected, rtol=1e-4, atol=1e-3)
    # What is trained on keeps the priors as they were fitted.
    read = Potential.read(tmp_path / "out")
    assert torch.equal(read.priors.bond.stiffness, of_three.priors.bond.stiffness)
    assert all(weight.requires_grad for weight in read.network.parameters())


def test_a_checkpoint_older_than_committees_is_read(make_potential, tmp_path):
    potential = make_potential(handed=False)
    potential.save(tmp_path / "out", {})
    file = tmp_path / "out" / "model.safetensors"
    old = {name.replace("members.0.", ""): value for name, value in load_file(file).items()}
    assert "network.embedding" in old
    save_file(old, file)
    settings = yaml.safe_load((tmp_path / "out" / "settings.yaml").read_text())
    del settings["committee"], settings["network"]["handed"]
    (tmp_path / "out" / "settings.yaml").write_text(yaml.safe_dump(settings))
    card = read_json(tmp_path / "out" / "card.json")
    write_json(tmp_path / "out" / "card.json", {**card, "model_sha256": sha256_of(file)})
    x = torch.from_numpy(grow_chains(3, 6, seed=4)).float()
    loaded = Potential.load(tmp_path / "out", CPU)
    torch.testing.assert_close(loaded.energy(x), potential.energy(x.double()).float())


def test_members_begin_differently_and_do_not_depend_on_their_number(make_potential):
    settings, topology = make_potential().settings.network, make_potential().topology
    two, three = (Committee(topology, settings, 2.9, members, seed=1) for members in (2, 3))
    weights = [network.head_in.weight for network in three.members]
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])
    for mine, theirs in zip(two.parameters(), three.parameters(), strict=False):
        assert torch.equal(mine, theirs)


def test_members_see_the_same_frames_in_orders_of_their_own():
    pools = (Pool(np.arange(10, 22), 4),)
    steps = [batch_of_members(step, pools, 2, seed=1) for step in range(3)]
    first, second = np.concatenate(steps, axis=1)
    assert sorted(first) == sorted(second) == list(range(10, 22))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(batch_of_members(1, pools, 1, seed=1), steps[1][:1])
