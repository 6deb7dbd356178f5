"""A potential on disk: the round trip, and what is refused."""

import numpy as np
import pytest
import torch
import yaml
from potential_molecules import grow_chains
from safetensors.torch import load_file, save_file

from trajgen.checkpoint import save_checkpoint
from trajgen.errors import InputError
from trajgen.files import read_json, sha256_of, write_json
from trajgen.potential.fit import FitSettings
from trajgen.potential.potential import Potential
from trajgen.settings import load_settings

CPU = torch.device("cpu")


def test_a_potential_comes_back_as_it_was(make_potential, tmp_path):
    potential = make_potential()
    potential.save(tmp_path / "out", {"note": "kept"})
    loaded = Potential.load(tmp_path / "out", CPU)
    assert loaded.topology == potential.topology
    assert loaded.settings == potential.settings
    assert loaded.temperature_K == 350.0
    assert read_json(tmp_path / "out" / "card.json")["note"] == "kept"
    x = torch.from_numpy(grow_chains(4, 6, seed=3))
    energy, forces = loaded.energy_and_forces(x.float())
    assert energy.dtype == forces.dtype == torch.float32
    expected, expected_forces = potential.energy_and_forces(x)
    np.testing.assert_allclose(energy, expected, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(forces, expected_forces, rtol=1e-3, atol=0.5)
    assert torch.equal(loaded.energy(x.float()), energy)


def test_a_checkpoint_of_another_kind_is_refused(tmp_path):
    save_checkpoint(tmp_path / "out", "surrogate", {"w": torch.zeros(1)}, {}, {})
    with pytest.raises(InputError, match="is a surrogate; a potential is wanted"):
        Potential.load(tmp_path / "out", CPU)


def test_a_checkpoint_cut_in_half_is_refused(make_potential, tmp_path):
    make_potential().save(tmp_path / "out", {})
    weights = tmp_path / "out" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    with pytest.raises(InputError, match="damaged"):
        Potential.load(tmp_path / "out", CPU)


def test_weights_that_do_not_fit_the_settings_are_refused(make_potential, tmp_path):
    make_potential().save(tmp_path / "out", {})
    file = tmp_path / "out" / "model.safetensors"
    weights = load_file(file)
    weights.pop("network.members.0.embedding")
    save_file(weights, file)
    card = read_json(tmp_path / "out" / "card.json")
    write_json(tmp_path / "out" / "card.json", {**card, "model_sha256": sha256_of(file)})
    with pytest.raises(InputError, match="do not fit its settings"):
        Potential.load(tmp_path / "out", CPU)


def test_settings_with_an_unknown_key_are_refused(make_potential, tmp_path):
    make_potential().save(tmp_path / "out", {})
    file = tmp_path / "out" / "settings.yaml"
    settings = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**settings, "network": {"layers": 3}}))
    with pytest.raises(InputError, match=r"network\.layers"):
        Potential.load(tmp_path / "out", CPU)


def test_the_default_configuration_is_the_default_of_the_code(request):
    path = request.config.rootpath / "configs" / "potential" / "default.yaml"
    assert load_settings(FitSettings, path) == FitSettings()
    assert yaml.safe_load(path.read_text()) == FitSettings().model_dump(mode="json")
