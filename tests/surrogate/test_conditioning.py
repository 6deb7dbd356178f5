import pytest
import torch

from trajgen.errors import InputError
from trajgen.settings import parse_settings
from trajgen.surrogate.conditioning import (
    TaskSettings,
    draw_tasks,
    forward_mask,
    interpolate_mask,
)


def test_forward_knows_the_first_frames():
    assert forward_mask(4, 2, known_first=2).tolist() == [[True] * 2] * 2 + [[False] * 2] * 2


def test_interpolation_knows_both_ends():
    assert interpolate_mask(4, 1)[:, 0].tolist() == [True, False, False, True]


@pytest.mark.parametrize("known_first", [0, 5, 6])
def test_forward_with_nothing_known_or_nothing_asked_is_refused(known_first: int):
    with pytest.raises(InputError, match="known_first is"):
        forward_mask(5, 3, known_first)


def test_a_path_without_a_frame_inside_is_refused():
    with pytest.raises(InputError, match="a path of 2 frames"):
        interpolate_mask(2, 3)


def test_drawn_tasks_are_of_the_two_kinds_in_their_shares():
    present = torch.ones(4000, 7, dtype=torch.bool)
    present[::2, 5:] = False
    generator = torch.Generator().manual_seed(0)
    tasks = draw_tasks(present, 2, TaskSettings(forward=1.0, interpolate=3.0), generator)
    is_path = tasks.known.all(dim=2).sum(dim=1) == 2
    assert abs(float(is_path.float().mean()) - 0.75) < 0.03
    lengths = tasks.present.sum(dim=1)
    # Forward asks for all that is there; paths have every length from three on.
    assert torch.equal(lengths[~is_path], present.sum(dim=1)[~is_path])
    assert sorted(set(lengths[is_path & ~present[:, 6]].tolist())) == [3, 4, 5]
    assert sorted(set(lengths[is_path & present[:, 6]].tolist())) == [3, 4, 5, 6, 7]
    last = tasks.known[torch.arange(4000), lengths - 1].all(dim=1)
    assert torch.equal(last, is_path)
    assert tasks.known[:, 0].all()
    assert not (tasks.known & ~tasks.present[:, :, None]).any()


def test_weights_that_are_all_zero_are_refused():
    with pytest.raises(InputError, match="every task has weight 0"):
        parse_settings(TaskSettings, {"forward": 0, "interpolate": 0}, "tasks")
