import pytest
import torch

from trajgen.errors import InputError
from trajgen.settings import parse_settings
from trajgen.surrogate.conditioning import (
    TASKS,
    Tasks,
    TaskSettings,
    begins_in_equilibrium,
    choose_tasks,
    draw_masks,
    forward_mask,
    inpaint_mask,
    interpolate_mask,
    upsample_mask,
)


def test_forward_knows_the_first_frames():
    assert forward_mask(4, 2, known_first=2).tolist() == [[True] * 2] * 2 + [[False] * 2] * 2


def test_interpolation_knows_both_ends():
    assert interpolate_mask(4, 1)[:, 0].tolist() == [True, False, False, True]


@pytest.mark.parametrize("known_first", [0, 5, 6])
def test_forward_with_nothing_known_or_nothing_asked_is_refused(known_first: int):
    with pytest.raises(InputError, match="known_first is"):
        forward_mask(5, 3, known_first)


def test_masks_that_ask_nothing_are_refused():
    with pytest.raises(InputError, match="the first 2 and the last 2 are known"):
        interpolate_mask(4, 3, 2, 2)
    with pytest.raises(InputError, match="factor is 1"):
        upsample_mask(5, 3, 1)
    with pytest.raises(InputError, match="0 of 3 residues are known"):
        inpaint_mask(5, torch.zeros(3, dtype=torch.bool), first_frame=True)


def test_a_path_without_a_frame_inside_is_refused():
    with pytest.raises(InputError, match="a path of 2 frames"):
        interpolate_mask(2, 3)


def drawn(settings: dict[str, float], windows: int = 4000, frames: int = 7) -> Tasks:
    present = torch.ones(windows, frames, dtype=torch.bool)
    present[::2, 5:] = False
    zeros = dict.fromkeys(TASKS, 0.0)
    generator = torch.Generator().manual_seed(0)
    chosen = choose_tasks(windows, TaskSettings(**{**zeros, **settings}), generator)
    tasks = draw_masks(chosen, present, 3, generator)
    asked = tasks.present[:, :, None] & ~tasks.known
    assert asked.any(dim=2).any(dim=1).all()
    assert not (tasks.known & ~tasks.present[:, :, None]).any()
    assert (tasks.present | ~present).all() or not torch.equal(tasks.present, present)
    return tasks


def test_tasks_are_drawn_in_their_shares():
    tasks = drawn({"forward": 1.0, "ensemble": 3.0})
    alone = ~tasks.known.flatten(1).any(dim=1)
    assert abs(float(alone.float().mean()) - 0.75) < 0.03
    assert (tasks.present.sum(dim=1)[alone] == 1).all()
    of_first = tasks.known.all(dim=2).sum(dim=1)[~alone]
    assert sorted(set(of_first.tolist())) == [1, 2, 3]


def test_paths_of_every_length_are_drawn():
    tasks = drawn({"interpolate": 1.0})
    lengths = tasks.present.sum(dim=1)
    assert sorted(set(lengths[::2].tolist())) == [3, 4, 5]
    assert sorted(set(lengths[1::2].tolist())) == [3, 4, 5, 6, 7]
    whole = tasks.known.all(dim=2)
    assert whole[:, 0].all()
    assert whole[torch.arange(4000), lengths - 1].all()


def test_every_factor_of_upsampling_is_drawn():
    tasks = drawn({"upsample": 1.0})
    known = tasks.known.all(dim=2)
    lengths = tasks.present.sum(dim=1)
    assert known[torch.arange(4000), lengths - 1].all()
    seen = {tuple(row.nonzero().flatten().tolist()) for row in known[1::2]}
    for factor in range(2, 7):
        assert tuple(sorted({*range(0, 7, factor), 6})) in seen


def test_residues_are_known_over_all_frames_in_inpainting():
    tasks = drawn({"inpaint": 1.0})
    later = tasks.known[:, 1:5]
    assert (later == later[:, :1]).all()
    counts = later[:, 0].sum(dim=1)
    assert sorted(set(counts.tolist())) == [1, 2]
    starts = tasks.known[:, 0].all(dim=1).float().mean()
    assert abs(float(starts) - 0.5) < 0.05


def test_types_of_unknown_residues_are_asked_in_design_alone():
    tasks = drawn({"design": 1.0, "inpaint": 1.0})
    asked = tasks.hidden.any(dim=1)
    assert abs(float(asked.float().mean()) - 0.5) < 0.03
    assert torch.equal(tasks.hidden[asked], ~tasks.known[asked].any(dim=1))
    assert not tasks.known[asked][:, 0].all(dim=1).any()


def test_tasks_that_ask_for_the_first_frame_are_told_apart():
    assert begins_in_equilibrium(torch.arange(6)).tolist() == [False] * 3 + [True] * 3
    shown = drawn({"forward": 1.0, "interpolate": 1.0, "upsample": 1.0})
    assert shown.known[:, 0].all()
    left = TaskSettings(forward=2.0).with_known_start()
    assert left.weights() == (2.0, 0.5, 0.5, 0.0, 0.0, 0.0)
    with pytest.raises(InputError, match="the data have none; train forward, interpolate"):
        TaskSettings(forward=0, interpolate=0, upsample=0).with_known_start()


def test_weights_that_are_all_zero_are_refused():
    with pytest.raises(InputError, match="every task has weight 0"):
        parse_settings(TaskSettings, dict.fromkeys(TASKS, 0), "tasks")
