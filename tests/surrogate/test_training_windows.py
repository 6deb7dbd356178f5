"""The windows that training draws: where they lie, at which lags, how often, in which direction."""

import gc
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from toy_chain import (
    LAG_PS,
    TOPOLOGY,
    make_dataset,
    tiny_settings,
    wobbling_chain,
)
from toy_peptide import make_peptide_dataset

from trajgen.data.records import BeadFrames
from trajgen.data.shards import ShardLabel
from trajgen.data.store import Dataset, DatasetHeader
from trajgen.errors import InputError
from trajgen.surrogate.conditioning import TaskSettings
from trajgen.surrogate.surrogate import SurrogateSettings
from trajgen.surrogate.training_settings import TrainingSettings
from trajgen.surrogate.training_windows import read_training_data
from trajgen.surrogate.window_source import DrawnWindows, Places, WindowSource


def drawn(source: WindowSource, length: int, from_ensemble: torch.Tensor) -> DrawnWindows:
    generator = torch.Generator().manual_seed(0)
    alone = torch.zeros_like(from_ensemble)
    return source.windows(length, Places.draw(from_ensemble, alone, generator))


def test_windows_never_cross_segments_nor_the_split(dataset: Dataset):
    model = SurrogateSettings(window_frames=6)
    (data,) = read_training_data([dataset], model, TaskSettings(), 0.1, 0.0, 1)
    joined = dataset.read_all_beads()
    sides = []
    for source in (data.training, data.validation):
        windows = drawn(source, 6, torch.zeros(500, dtype=torch.bool))
        segments = joined.segments[windows.frames.numpy()]
        assert (segments == segments[:, :1]).all()
        sides.append(set(windows.frames.flatten().tolist()))
    assert not sides[0] & sides[1]
    assert sides[1]
    assert max(sides[1]) - min(sides[1]) < 80  # the end of one segment


def test_lags_are_those_that_the_data_allow_even_in_log_time(dataset: Dataset):
    (data,) = read_training_data(
        [dataset], SurrogateSettings(window_frames=6), TaskSettings(), 0.1, 0.0, 1
    )
    # 199 steps of 2 ps hold two windows of five lags up to 39.8 ps.
    assert data.molecule.lags_ps == pytest.approx((2.0, 39.8))
    windows = drawn(data.training, 6, torch.zeros(4000, dtype=torch.bool))
    lags = windows.times.lag_ps.log() / np.log(39.8 / 2)
    assert 0.42 < float((lags - lags.min()).mean()) < 0.58
    whole = windows.times.times_ps[:, 1] == windows.times.lag_ps
    assert whole[windows.present[:, 2]].all()
    chosen = SurrogateSettings(window_frames=6, shortest_lag_ps=4, longest_lag_ps=8)
    (data,) = read_training_data([dataset], chosen, TaskSettings(), 0.1, 0.0, 1)
    assert data.molecule.lags_ps == (4, 8)


def test_a_lag_that_frames_do_not_meet_is_refused(dataset: Dataset):
    settings = SurrogateSettings(window_frames=6, shortest_lag_ps=3.0, longest_lag_ps=9.0)
    with pytest.raises(InputError, match="shortest_lag_ps is 3, which is no multiple"):
        read_training_data([dataset], settings, TaskSettings(), 0.1, 0.0, 1)


def test_lags_below_the_time_between_frames_are_refused(dataset: Dataset):
    """They are none of the data, and were silently the shortest one."""
    settings = SurrogateSettings(window_frames=6, longest_lag_ps=LAG_PS / 4)
    with pytest.raises(
        InputError, match=r"longest_lag_ps is 0\.5, which is below the time between"
    ):
        read_training_data([dataset], settings, TaskSettings(), 0.1, 0.0, 1)
    settings = SurrogateSettings(window_frames=6, longest_lag_ps=LAG_PS)
    (data,) = read_training_data([dataset], settings, TaskSettings(), 0.1, 0.0, 1)
    assert data.molecule.lags_ps == (LAG_PS, LAG_PS)


def damaged(dataset: Dataset, shard: int, array: str, *place: int) -> Dataset:
    """Write a NaN into a shard, as no import would."""
    (file,) = dataset.path.glob(f"shards/{dataset.entries[shard].label.name}*")
    arrays = load_file(file)
    arrays[array][place] = np.nan
    save_file(arrays, file)
    return Dataset.open(dataset.path)


def test_a_nan_in_a_side_chain_is_named_by_shard_and_frame(tmp_path: Path):
    """The alpha carbons are whole; the window that was blamed was the first one drawn."""
    dataset = make_peptide_dataset(tmp_path / "dataset", frames=30)
    atoms = dataset.header.atoms
    assert atoms is not None
    found = damaged(dataset, 1, "atom_positions_nm", 17, atoms.names.index("OH"), 2)
    settings = SurrogateSettings(
        resolution="heavy", window_frames=6, shortest_lag_ps=LAG_PS, longest_lag_ps=LAG_PS
    )
    with pytest.raises(
        InputError, match="1 frames have a NaN or infinity, first frame 17 of shard segment-1;"
    ):
        read_training_data([found], settings, TaskSettings(), 0.1, 0.0, 1)


def test_chains_that_came_apart_are_counted_beside_no_nan(tmp_path: Path):
    segments = [wobbling_chain(40, seed) for seed in range(2)]
    segments[1][[5, 9], 0, 0] += 2.0
    dataset = make_dataset(tmp_path / "dataset", segments)
    with pytest.raises(
        InputError, match="2 frames have a chain that has come apart, first frame 5"
    ):
        read_training_data([dataset], tiny_settings(2).model, TaskSettings(), 0.1, 0.0, 1)
    found = damaged(dataset, 0, "positions_nm", 3, 1, 0)
    with pytest.raises(InputError, match="1 frames have a NaN or infinity, first frame 3 of shard"):
        read_training_data([found], tiny_settings(2).model, TaskSettings(), 0.1, 0.0, 1)


def test_temperatures_of_shards_reach_their_windows(tmp_path: Path):
    dataset = make_dataset(tmp_path / "dataset", [wobbling_chain(40, 0)])
    label = ShardLabel("warm", "import", "springs", 400.0, LAG_PS)
    ids = np.zeros(40, dtype=np.int64)
    dataset.append_beads(label, BeadFrames(TOPOLOGY, wobbling_chain(40, 1), ids, LAG_PS))
    (data,) = read_training_data([dataset], tiny_settings(2).model, TaskSettings(), 0.0, 0.0, 1)
    windows = drawn(data.training, 6, torch.zeros(200, dtype=torch.bool))
    assert data.molecule.temperatures_K == (300.0, 400.0)
    warm = windows.frames[:, 0] >= 40
    assert warm.any()
    assert torch.equal(windows.times.temperature_K, torch.where(warm, 400.0, 300.0))


def test_windows_without_a_known_start_begin_as_often_as_in_equilibrium(tmp_path: Path):
    dataset = make_dataset(tmp_path / "dataset", [wobbling_chain(40, 0)])
    ids = np.zeros(40, dtype=np.int64)
    seeded = ShardLabel("seeded", "oracle", "springs", 300.0, LAG_PS, sampling="seeded")
    dataset.append_beads(seeded, BeadFrames(TOPOLOGY, wobbling_chain(40, 1), ids, LAG_PS))
    weights = np.where(np.arange(40) < 10, 3.0, 0.5)
    weights[20] = 0.0  # no window begins there, but those of 18 and 19 pass through
    label = ShardLabel("weighted", "import", "springs", 300.0, LAG_PS, sampling="reweighted")
    frames = BeadFrames(TOPOLOGY, wobbling_chain(40, 2), ids, LAG_PS, weights=weights)
    dataset.append_beads(label, frames)
    settings = SurrogateSettings(window_frames=3, shortest_lag_ps=LAG_PS, longest_lag_ps=LAG_PS)
    (data,) = read_training_data([dataset], settings, TaskSettings(), 0.0, 0.0, 1)
    asked = torch.arange(9000) % 2 == 0
    first = drawn(data.training, 3, asked).frames[:, 0]
    anywhere = torch.bincount(first[~asked] // 40)
    assert (anywhere - 1500).abs().max() < 200
    counts = torch.bincount(first[asked], minlength=120).double()
    assert counts[40:80].sum() == 0
    wanted = np.concatenate([np.ones(38), weights[:38] / weights.mean()])
    found = counts[torch.cat([torch.arange(38), torch.arange(80, 118)])].numpy()
    assert found.sum() == 4500
    expected = 4500 * wanted / wanted.sum()
    assert found[38 + 20] == 0
    assert (np.abs(found - expected) <= 4 * np.sqrt(expected)).all()


def test_only_trajectories_at_equilibrium_are_shown_backward_and_where_asked(tmp_path: Path):
    dataset = make_dataset(tmp_path / "dataset", [wobbling_chain(40, 0)])
    ids = np.zeros(40, dtype=np.int64)
    for number, sampling in enumerate(("seeded", "reweighted", "equilibrium"), start=1):
        label = ShardLabel(sampling, "import", "springs", 300.0, LAG_PS, sampling=sampling)
        weights = np.ones(40) if sampling == "reweighted" else None
        frames = BeadFrames(TOPOLOGY, wobbling_chain(40, number), ids, LAG_PS, weights=weights)
        dataset.append_beads(label, frames)
    settings = tiny_settings(2).model
    (data,) = read_training_data([dataset], settings, TaskSettings(), 0.0, 0.0, 1, backward=True)
    frames = drawn(data.training, 6, torch.zeros(800, dtype=torch.bool)).frames
    backward = (frames.diff(dim=1) < 0).any(dim=1)
    shares = [float(backward[frames[:, 0] // 40 == shard].float().mean()) for shard in range(4)]
    assert shares[1] == shares[2] == 0
    assert 0.4 < shares[0] < 0.6
    assert 0.4 < shares[3] < 0.6
    (data,) = read_training_data([dataset], settings, TaskSettings(), 0.0, 0.0, 1)
    frames = drawn(data.training, 6, torch.zeros(800, dtype=torch.bool)).frames
    assert (frames.diff(dim=1) >= 0).all()
    with pytest.raises(ValueError, match=r"backward is true and balance 0\.5"):
        TrainingSettings(backward=True, balance=0.5)


def test_weights_count_across_shards_and_single_frames_are_any_frames(tmp_path: Path):
    """Files of a reweighted simulation are shards; a window needs room, a single frame does not."""
    dataset = Dataset.create(tmp_path / "dataset", DatasetHeader(TOPOLOGY))
    ids = np.zeros(40, dtype=np.int64)
    for number, weight in enumerate((1.0, 9.0)):
        label = ShardLabel(f"w{number}", "import", "springs", 300.0, LAG_PS, sampling="reweighted")
        weights = np.full(40, weight)
        frames = BeadFrames(TOPOLOGY, wobbling_chain(40, number), ids, LAG_PS, weights=weights)
        dataset.append_beads(label, frames)
    (data,) = read_training_data([dataset], tiny_settings(2).model, TaskSettings(), 0.0, 0.0, 1)
    inside = torch.ones(4000, dtype=torch.bool)
    windows = drawn(data.training, 6, inside)
    assert abs(float((windows.frames[:, 0] >= 40).float().mean()) - 0.9) < 0.03
    assert int(windows.frames[:, 0].max()) == 74
    places = Places.draw(inside, inside, torch.Generator().manual_seed(0))
    alone = data.training.windows(6, places).frames
    assert (alone == alone[:, :1]).all()
    assert sorted(set(alone[:, 0].tolist())) == list(range(80))
    assert abs(float((alone[:, 0] >= 40).float().mean()) - 0.9) < 0.03


def test_balance_shows_rare_states_more_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("trajgen.surrogate.balance.STATES", 2)
    rare = wobbling_chain(40, 1)
    rare[..., 2] *= -1  # the mirror image, as a state of its own
    dataset = make_dataset(tmp_path / "dataset", [wobbling_chain(400, 0), rare])
    shares = []
    for balance in (0.0, 1.0):
        (data,) = read_training_data(
            [dataset], tiny_settings(2).model, TaskSettings(), 0.0, balance, 1
        )
        anywhere = torch.zeros(4000, dtype=torch.bool)
        windows = drawn(data.training, 6, anywhere)
        shares.append(float((windows.frames[:, 0] >= 400).float().mean()))
        asked = drawn(data.training, 6, ~anywhere)
        assert 0.02 < float((asked.frames[:, 0] >= 400).float().mean()) < 0.12
    assert shares[0] < 0.12
    assert abs(shares[1] - 0.5) < 0.06


def test_windows_pass_from_shard_to_shard_of_a_trajectory(tmp_path: Path):
    dataset = Dataset.create(tmp_path / "dataset", DatasetHeader(TOPOLOGY))
    whole = wobbling_chain(60, 0)
    for number, part in enumerate(np.split(whole, 3)):
        continues = number > 0
        label = ShardLabel(f"{number}", "import", "springs", 300.0, LAG_PS, continues=continues)
        ids = np.zeros(len(part), dtype=np.int64)
        dataset.append_beads(label, BeadFrames(TOPOLOGY, part, ids, LAG_PS))
    settings = SurrogateSettings(window_frames=6)
    (data,) = read_training_data([dataset], settings, TaskSettings(), 0.0, 0.0, 1)
    assert data.molecule.lags_ps == pytest.approx((LAG_PS, 59 * LAG_PS / 10))
    source = data.training
    windows = drawn(source, 6, torch.arange(500) % 2 == 0)
    assert (windows.frames[:, 0] // 20 != windows.frames[:, -1] // 20).any()
    assert (windows.frames.diff(dim=1) == windows.strides[:, None]).all()
    read = source.positions.read(windows.frames).numpy()
    np.testing.assert_array_equal(read, whole[windows.frames.numpy()])


def test_memory_does_not_grow_with_frames(tmp_path: Path):
    one = wobbling_chain(500, 0)
    peaks = []
    for copies in (20, 120):
        dataset = Dataset.create(tmp_path / str(copies), DatasetHeader(TOPOLOGY))
        for number in range(4):
            label = ShardLabel(f"part-{number}", "import", "springs", 300.0, LAG_PS)
            frames = np.tile(one, (copies, 1, 1))
            ids = np.zeros(len(frames), dtype=np.int64)
            dataset.append_beads(label, BeadFrames(TOPOLOGY, frames, ids, LAG_PS))
        tracemalloc.start()
        (data,) = read_training_data([dataset], tiny_settings(2).model, TaskSettings(), 0.1, 0.0, 1)
        drawn(data.training, 6, torch.arange(500) % 2 == 0)
        drawn(data.validation, 6, torch.arange(500) % 2 == 0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        tensors = [some for some in gc.get_objects() if type(some) is torch.Tensor]
        assert not [some.shape for some in tensors if some.shape == (dataset.n_frames,)]
    assert peaks[1] - peaks[0] < 200_000  # one byte for each further frame
