"""Training that goes on: what is new, how batches mix, and that nothing is forgotten."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from potential_molecules import TEMPERATURE_K, make_frames, write_dataset

from trajgen.data.records import BeadFrames
from trajgen.data.shards import ShardLabel
from trajgen.data.splits import split_by_segment
from trajgen.data.store import Dataset
from trajgen.errors import InputError
from trajgen.files import read_json
from trajgen.geometry.internal import distances
from trajgen.potential.batches import batch_of_members, make_pools
from trajgen.potential.continuation import Stage, find_stages, split_frames
from trajgen.potential.energy import energy_and_forces
from trajgen.potential.fit import FitSettings, fit_potential
from trajgen.potential.force_labels import read_labelled_frames
from trajgen.potential.potential import Potential
from trajgen.potential.prior_fit import fit_priors
from trajgen.potential.priors import PriorSettings

CPU = torch.device("cpu")
ENDS = torch.tensor([[0, 3]])


def two_regions(n_frames: int = 700) -> tuple[BeadFrames, BeadFrames]:
    """Return stretched and bent tetrapeptides of one energy, with a feature in each region."""
    frames = make_frames("GYDP", n_frames, seed=1, segments=20)
    priors = fit_priors(frames, TEMPERATURE_K, PriorSettings()).priors

    def energy(x: torch.Tensor) -> torch.Tensor:
        apart = distances(x, ENDS)[:, 0]
        far = -12 * torch.exp(-(((apart - 0.95) / 0.1) ** 2))
        return priors(x) + far + 12 * torch.exp(-(((apart - 0.6) / 0.1) ** 2))

    positions = torch.from_numpy(frames.positions_nm)
    _, forces = energy_and_forces(energy, positions.double())
    labelled = replace(frames, forces=forces.float().numpy())
    stretched = distances(positions, ENDS)[:, 0].numpy() > 0.78
    return labelled.take(stretched), labelled.take(~stretched)


def choices(new_share: float = 0.5, priors: str = "keep", **training: object) -> FitSettings:
    return FitSettings.model_validate(
        {
            "network": {"blocks": 1, "features": 16, "radial_functions": 12},
            "prior_check": None,
            "ensemble": None,
            "continuation": {"new_share": new_share, "priors": priors},
            "training": {
                "steps": 10,
                "batch": 16,
                "warmup_steps": 2,
                "learning_rate": 5e-3,
                "validate_every": 5,
                "validation_fraction": 0.2,
                **training,
            },
        }
    )


def grow(dataset: Dataset, frames: BeadFrames, name: str) -> None:
    label = ShardLabel(name, "oracle", "test", TEMPERATURE_K, None, sampling="seeded")
    dataset.append_beads(label, frames)


@pytest.fixture(scope="module")
def regions() -> tuple[BeadFrames, BeadFrames]:
    return two_regions()


def test_old_frames_are_kept_in_mind_only_where_batches_mix(tmp_path, regions):
    stretched, bent = regions
    dataset = write_dataset(tmp_path / "data", stretched)
    long = {"steps": 250, "batch": 64, "average_decay": 0.97, "validate_every": 50}
    first = fit_potential(dataset, tmp_path / "first", choices(**long), seed=1, device=CPU)
    grow(dataset, bent, "new")
    losses = {}
    for share in (0.5, 1.0):
        out = tmp_path / f"share-{share}"
        settings = choices(share, **{**long, "validate_every": 250})
        fit_potential(dataset, out, settings, seed=2, device=CPU, start_from=first)
        losses[share] = read_json(out / "card.json")["continued"]["loss"]
    begun = read_json(first / "card.json")["best_validation_loss"]
    for loss in losses.values():
        # The frames that were held out still are, and the start is the potential as it was.
        assert loss["old"]["before"] == pytest.approx(begun, rel=1e-5)
        assert loss["new"]["after"] < 0.1 * loss["new"]["before"]
    assert losses[0.5]["old"]["after"] < 1.5 * begun
    assert losses[1.0]["old"]["after"] > 3 * begun


def test_frames_are_split_again_as_they_were(tmp_path, regions):
    stretched, bent = regions
    dataset = write_dataset(tmp_path / "data", stretched)
    in_train, in_validation = split_by_segment(stretched.segments, 0.2, 5)
    grow(dataset, bent, "one")
    grow(dataset, bent, "two")
    shards = [(entry.label.name, entry.sha256) for entry in dataset.entries]
    stages = (Stage(5, 0.2, tuple(shards[:1])), Stage(6, 0.1, tuple(shards[1:])))
    split = split_frames(dataset, read_labelled_frames(dataset), stages, n_old_stages=1)
    np.testing.assert_array_equal(split.train_old, np.flatnonzero(in_train))
    np.testing.assert_array_equal(split.validation_old, np.flatnonzero(in_validation))
    lone = (Stage(5, 0.2, tuple(shards[:2])), Stage(6, 0.1, tuple(shards[2:])))
    frames = read_labelled_frames(dataset)
    of_last = np.flatnonzero(frames.shards == 2)
    kept = np.delete(np.arange(len(frames.shards)), of_last[1:])
    single = replace(frames, frames=frames.frames.take(kept), shards=frames.shards[kept])
    assert len(split_frames(dataset, single, lone, n_old_stages=1).train_new) == 1
    everything = np.concatenate([split.train, split.validation])
    assert sorted(everything) == list(range(stretched.n_frames + 2 * bent.n_frames))
    assert split.train_new.min() >= stretched.n_frames
    assert 0 < len(split.validation_new) < len(split.train_new)
    assert Stage.from_dict(json.loads(json.dumps(stages[1].to_dict()))) == stages[1]


def test_each_continuation_adds_a_stage(tmp_path, regions):
    stretched, bent = regions
    dataset = write_dataset(tmp_path / "data", stretched)
    before = None
    for number in range(3):
        out = tmp_path / str(number)
        fit_potential(dataset, out, choices(), seed=number, device=CPU, start_from=before)
        grow(dataset, bent.take(slice(40 * number, 40 * number + 40)), f"new{number}")
        before = out
    card = read_json(tmp_path / "2" / "card.json")
    names = [[name for name, _ in stage["shards"]] for stage in card["trained_on"]]
    assert names == [["part0"], ["new0"], ["new1"]]
    assert [stage["seed"] for stage in card["trained_on"]] == [0, 1, 2]
    assert sum(card["n_frames"].values()) == stretched.n_frames + 80
    assert card["continued"]["from"] == str(tmp_path / "1")
    assert read_json(tmp_path / "0" / "card.json")["continued"] is None


def test_a_dataset_that_did_not_grow_is_trained_on_further(tmp_path, regions):
    dataset = write_dataset(tmp_path / "data", regions[0])
    first = fit_potential(dataset, tmp_path / "first", choices(), seed=1, device=CPU)
    again = fit_potential(
        dataset, tmp_path / "again", choices(), seed=2, device=CPU, start_from=first
    )
    cards = [read_json(path / "card.json") for path in (first, again)]
    assert cards[1]["trained_on"] == cards[0]["trained_on"]
    assert cards[1]["continued"]["loss"]["new"] == {"before": None, "after": None}
    assert cards[1]["best_validation_loss"] < cards[0]["best_validation_loss"]


@pytest.mark.parametrize("priors", ["keep", "refit"])
def test_priors_are_kept_or_fitted_again(tmp_path, regions, priors):
    stretched, bent = regions
    dataset = write_dataset(tmp_path / "data", stretched)
    first = fit_potential(dataset, tmp_path / "first", choices(), seed=1, device=CPU)
    label = ShardLabel("plain", "sample", "test", TEMPERATURE_K, None)
    dataset.append_beads(label, bent)
    out = fit_potential(dataset, tmp_path / "out", choices(priors=priors), 1, CPU, start_from=first)
    old, new = (Potential.read(path).priors.state_dict() for path in (first, out))
    assert all(torch.equal(old[name], new[name]) for name in old) == (priors == "keep")
    frames = read_labelled_frames(dataset).frames
    refitted = fit_priors(frames, TEMPERATURE_K, PriorSettings()).priors.state_dict()
    assert all(torch.equal(refitted[name], new[name]) for name in new) == (priors == "refit")
    # Labels are of the priors that are kept in the checkpoint, whichever they are.
    potential, held_out = Potential.load(out, CPU), split_of(dataset, out)
    _, forces = potential.energy_and_forces(torch.from_numpy(frames.positions_nm[held_out]))
    error = float(np.square(forces.numpy() - frames.forces[held_out]).mean())
    best = read_json(out / "card.json")["best_validation_loss"]
    assert error == pytest.approx(best, rel=1e-3)


def split_of(dataset: Dataset, out: Path) -> np.ndarray:
    stages = tuple(Stage.from_dict(v) for v in read_json(out / "card.json")["trained_on"])
    return split_frames(dataset, read_labelled_frames(dataset), stages, 0).validation


def test_what_does_not_fit_the_start_is_refused(tmp_path, regions):
    stretched, bent = regions
    dataset = write_dataset(tmp_path / "data", stretched)
    first = fit_potential(dataset, tmp_path / "first", choices(), seed=1, device=CPU)

    def go_on(data: Dataset, settings: FitSettings) -> None:
        fit_potential(data, tmp_path / "out", settings, 1, CPU, start_from=first)

    with pytest.raises(InputError, match="has committee 1, this fit 2"):
        go_on(dataset, choices().model_copy(update={"committee": 2}))
    wider = choices().network.model_copy(update={"features": 8})
    with pytest.raises(InputError, match="has network"):
        go_on(dataset, choices().model_copy(update={"network": wider}))
    warmer = write_dataset(tmp_path / "warm", stretched, temperatures_K=(300.0,))
    with pytest.raises(InputError, match=r"has temperature_K 350\.0, this fit 300\.0"):
        go_on(warmer, choices())
    other = write_dataset(tmp_path / "other", bent)
    with pytest.raises(InputError, match="lacks 1 of the 1 shards"):
        go_on(other, choices())
    grow(dataset, bent, "new")
    with pytest.raises(InputError, match="takes 2 or more"):
        go_on(dataset, choices(batch=1))
    assert not (tmp_path / "out").exists()


def test_a_card_without_shards_is_refused(tmp_path, regions):
    dataset = write_dataset(tmp_path / "data", regions[0])
    first = fit_potential(dataset, tmp_path / "first", choices(), seed=1, device=CPU)
    card = read_json(first / "card.json")
    del card["trained_on"]
    (first / "card.json").write_text(json.dumps(card))
    with pytest.raises(InputError, match="does not name the shards"):
        fit_potential(dataset, tmp_path / "out", choices(), 1, CPU, start_from=first)


def test_a_killed_continuation_is_not_taken_over_by_a_plain_fit(tmp_path, regions, monkeypatch):
    dataset = write_dataset(tmp_path / "data", regions[0])
    first = fit_potential(dataset, tmp_path / "first", choices(), seed=1, device=CPU)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    settings = choices(save_every=5)
    with monkeypatch.context() as patch:
        patch.setattr(Potential, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            fit_potential(dataset, tmp_path / "out", settings, 1, CPU, start_from=first)
    with pytest.raises(InputError, match="of another dataset, seed, start or settings"):
        fit_potential(dataset, tmp_path / "out", settings, 1, CPU)
    whole = fit_potential(dataset, tmp_path / "whole", settings, 1, CPU, start_from=first)
    out = fit_potential(dataset, tmp_path / "out", settings, 1, CPU, start_from=first)
    name = "model.safetensors"
    assert (out / name).read_bytes() == (whole / name).read_bytes()


def test_without_a_start_all_shards_are_one_stage(tmp_path, regions):
    dataset = write_dataset(tmp_path / "data", *regions)
    (stage,) = find_stages(dataset, None, seed=4, validation_fraction=0.3)
    assert stage.shards == tuple((e.label.name, e.sha256) for e in dataset.entries)


@pytest.mark.parametrize(("share", "n_new"), [(0.25, 2), (0.01, 1), (0.99, 7), (1.0, 8)])
def test_every_batch_holds_its_share_of_new_frames(share, n_new):
    pools = make_pools(np.arange(40), np.arange(40, 56), batch=8, new_share=share)
    rows = [batch_of_members(step, pools, 2, seed=1) for step in range(16)]
    assert all((row >= 40).sum(axis=1).tolist() == [n_new, n_new] for row in rows)
    assert all(row.shape == (2, 8) for row in rows)
    new = np.concatenate([row[0][row[0] >= 40] for row in rows])
    epochs = len(new) // 16
    counts = np.bincount(new[: 16 * epochs] - 40, minlength=16)
    assert (counts == epochs).all()  # each new frame once an epoch


def test_one_kind_of_frames_is_one_pool():
    nothing = np.zeros(0, dtype=np.int64)
    for old, new in ((np.arange(5), nothing), (nothing, np.arange(5))):
        (pool,) = make_pools(old, new, batch=16, new_share=0.5)
        assert pool.size == 5
        np.testing.assert_array_equal(pool.frames, np.arange(5))
