"""A model on disk: weights (safetensors), settings (YAML) and a card (JSON); nothing is pickled.

A finished checkpoint is a folder with ``model.safetensors``, ``settings.yaml`` and ``card.json``.
While it is trained, the training state lies beside it in ``NAME.training`` and the folder itself
does not exist, so a checkpoint is absent or whole. The card holds the hash of the weights: a file
that was cut or changed is refused when it is read.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from trajgen import __version__
from trajgen.errors import InputError
from trajgen.files import (
    read_json,
    sha256_of,
    system_errors,
    whole_file,
    whole_folder,
    write_json,
)
from trajgen.settings import read_yaml

#: What the weights of each kind of model mean; raised where they come to mean something else.
LAYOUT_VERSIONS = {"potential": 1, "surrogate": 6}


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint folder holds.

    Attributes:
        kind: what it is, ``potential`` or ``surrogate``.
        weights: named tensors, on the CPU.
        settings: the nested settings of the model, ready for its ``Settings`` class.
        card: what it was trained on, when, its metrics and versions.
    """

    kind: str
    weights: dict[str, Tensor]
    settings: dict[str, Any]
    card: dict[str, Any]


def save_checkpoint(
    path: Path,
    kind: str,
    weights: dict[str, Tensor],
    settings: dict[str, Any],
    card: dict[str, Any],
) -> None:
    """Write a checkpoint folder; it appears under its name only when whole.

    Raises:
        InputError: ``path`` exists already.
    """
    with whole_folder(path) as folder:
        with system_errors(path):
            save_file(_contiguous(weights), folder / "model.safetensors")
        text = yaml.safe_dump(settings, sort_keys=False)
        (folder / "settings.yaml").write_text(text, encoding="utf-8")
        full_card = {
            "kind": kind,
            "layout_version": LAYOUT_VERSIONS[kind],
            "trajgen_version": __version__,
            "model_sha256": sha256_of(folder / "model.safetensors"),
            **card,
        }
        write_json(folder / "card.json", full_card)


def load_checkpoint(path: Path, kind: str) -> Checkpoint:
    """Read a checkpoint folder.

    Raises:
        InputError: it is missing, of another kind or layout, or damaged.
    """
    card = read_card(path)
    if card.get("kind") != kind:
        raise InputError(f"checkpoint {path} is a {card.get('kind')}; a {kind} is wanted")
    if card.get("layout_version") != LAYOUT_VERSIONS[kind]:
        raise InputError(
            f"checkpoint {path} has layout version {card.get('layout_version')}, "
            f"this program reads {LAYOUT_VERSIONS[kind]}; train it again"
        )
    weights_file = path / "model.safetensors"
    if sha256_of(weights_file) != card.get("model_sha256"):
        raise InputError(
            f"checkpoint {path} is damaged: model.safetensors is not the file that its card "
            "describes; copy it again or train it again"
        )
    try:
        weights = load_file(weights_file)
    except SafetensorError as error:
        raise InputError(f"checkpoint {path} is damaged: {error}") from error
    settings = read_yaml(path / "settings.yaml")
    return Checkpoint(kind, weights, settings, card)


def read_card(path: Path) -> dict[str, Any]:
    """Read what a checkpoint says of itself: kind, layout, data, metrics and hash of the weights.

    Raises:
        InputError: it is missing or not whole.
    """
    if not path.is_dir():
        raise InputError(f"checkpoint {path} is missing; name a folder written by fit or train")
    for name in ("card.json", "settings.yaml", "model.safetensors"):
        if not (path / name).is_file():
            raise InputError(f"checkpoint {path} has no {name}; it is not whole, train it again")
    card = read_json(path / "card.json")
    if not isinstance(card, dict):
        raise InputError(f"checkpoint {path} has a card.json that is no mapping; train it again")
    return card


def training_folder(path: Path) -> Path:
    """Return where the training state of the checkpoint ``path`` lies while it is trained."""
    return path.with_name(path.name + ".training")


def save_training_state(path: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write the training state of a checkpoint; an older state is replaced only when it is whole.

    The JSON names the tensor file by its hash and is renamed last, so the pair always fits.
    """
    folder = training_folder(path)
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / "new.safetensors") as temporary, system_errors(folder):
        save_file(_contiguous(tensors), temporary)
    digest = sha256_of(folder / "new.safetensors")
    name = f"state-{digest[:16]}.safetensors"
    (folder / "new.safetensors").replace(folder / name)
    write_json(folder / "state.json", {**state, "tensors": name})
    for other in folder.glob("state-*.safetensors"):
        if other.name != name:
            other.unlink()


def load_training_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Read the training state of a checkpoint, or return None where there is none."""
    folder = training_folder(path)
    if not (folder / "state.json").is_file():
        return None
    state = read_json(folder / "state.json")
    try:
        return load_file(folder / state.pop("tensors")), state
    except (SafetensorError, FileNotFoundError) as error:
        raise InputError(
            f"training state {folder} is damaged ({error}); remove the folder to begin anew"
        ) from error


def drop_training_state(path: Path) -> None:
    """Remove the training state of a checkpoint that is finished."""
    shutil.rmtree(training_folder(path), ignore_errors=True)


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
