"""Checkpoints are whole or refused, and nothing in them is ever unpickled."""

import json
import pickle
from pathlib import Path

import pytest
import torch

from trajgen import checkpoint
from trajgen.checkpoint import (
    drop_training_state,
    load_checkpoint,
    load_training_state,
    read_card,
    save_checkpoint,
    save_training_state,
    training_folder,
)
from trajgen.errors import InputError
from trajgen.files import sha256_of

WEIGHTS = {
    "layer.weight": torch.arange(6.0).reshape(2, 3).T,  # not contiguous
    "layer.steps": torch.tensor(7),
}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    save_checkpoint(path, "potential", WEIGHTS, {"cutoff_nm": 1.2}, {"seed": 3})
    return path


def test_a_checkpoint_comes_back(saved: Path) -> None:
    read = load_checkpoint(saved, "potential")
    assert read.settings == {"cutoff_nm": 1.2}
    assert read.card["seed"] == 3
    assert read.weights.keys() == WEIGHTS.keys()
    for name, tensor in WEIGHTS.items():
        assert torch.equal(read.weights[name], tensor)
        assert read.weights[name].dtype == tensor.dtype


def test_tensors_that_share_memory_are_saved(tmp_path: Path) -> None:
    tensor = torch.arange(4.0)
    save_checkpoint(tmp_path / "m", "potential", {"a": tensor, "b": tensor[1:]}, {}, {})
    read = load_checkpoint(tmp_path / "m", "potential").weights
    assert torch.equal(read["b"], tensor[1:])


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_cut_weights_file_is_refused(saved: Path, share: float) -> None:
    file = saved / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match="is damaged"):
        load_checkpoint(saved, "potential")


def test_a_changed_weights_file_is_refused(saved: Path) -> None:
    file = saved / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match="is damaged"):
        load_checkpoint(saved, "potential")


def test_a_pickle_is_never_opened(saved: Path, tmp_path: Path) -> None:
    trap = tmp_path / "sprung"

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (trap,))

    file = saved / "model.safetensors"
    file.write_bytes(pickle.dumps(Trap()))
    card = json.loads((saved / "card.json").read_text())
    card["model_sha256"] = sha256_of(file)
    (saved / "card.json").write_text(json.dumps(card))
    with pytest.raises(InputError, match="is damaged"):
        load_checkpoint(saved, "potential")
    assert not trap.exists()


@pytest.mark.parametrize("name", ["card.json", "settings.yaml", "model.safetensors"])
def test_a_checkpoint_without_a_part_is_refused(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(InputError, match=f"has no {name}"):
        load_checkpoint(saved, "potential")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("card.json", "{", "not a readable JSON"),
        ("card.json", "[]", "no mapping"),
        ("settings.yaml", "a: [", "not YAML"),
    ],
)
def test_a_broken_text_part_is_refused(saved: Path, name: str, text: str, said: str) -> None:
    (saved / name).write_text(text)
    with pytest.raises(InputError, match=said):
        load_checkpoint(saved, "potential")


def test_another_kind_layout_or_nothing_is_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a potential; a surrogate is wanted"):
        load_checkpoint(saved, "surrogate")
    with pytest.raises(InputError, match="is missing"):
        read_card(tmp_path / "none")
    card = json.loads((saved / "card.json").read_text())
    (saved / "card.json").write_text(json.dumps({**card, "layout_version": 99}))
    with pytest.raises(InputError, match="layout version 99"):
        load_checkpoint(saved, "potential")


def test_a_checkpoint_is_never_replaced(saved: Path) -> None:
    with pytest.raises(InputError, match="exists already"):
        save_checkpoint(saved, "potential", WEIGHTS, {}, {})
    assert load_checkpoint(saved, "potential").settings == {"cutoff_nm": 1.2}


def test_the_training_state_is_the_last_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model"
    assert load_training_state(path) is None
    for step in (1, 2):
        save_training_state(path, {"moment": torch.full((3,), float(step))}, {"step": step})
    with monkeypatch.context() as patch:

        def killed(*arguments: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(checkpoint, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            save_training_state(path, {"moment": torch.full((3,), 3.0)}, {"step": 3})
    loaded = load_training_state(path)
    assert loaded is not None
    assert loaded[1] == {"step": 2}
    assert torch.equal(loaded[0]["moment"], torch.full((3,), 2.0))
    save_training_state(path, {"moment": torch.full((3,), 3.0)}, {"step": 3})
    assert len(list(training_folder(path).glob("*.safetensors"))) == 1
    drop_training_state(path)
    assert load_training_state(path) is None
    assert not training_folder(path).exists()


def test_a_damaged_training_state_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "model"
    save_training_state(path, {"moment": torch.ones(3)}, {"step": 1})
    (file,) = training_folder(path).glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(InputError, match="remove the folder to begin anew"):
        load_training_state(path)
