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
    interpolate_mask,
    require_known_residues,
    uneven_times,
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
    with pytest.raises(InputError, match="0 of 3 residues are known"):
        require_known_residues(torch.zeros(3, dtype=torch.bool), 1)
    with pytest.raises(InputError, match="2 of 4 residues are known; wanted are at least 3"):
        require_known_residues(torch.tensor([True, True, False, False]), 3)


def test_a_path_without_a_frame_inside_is_refused():
    with pytest.raises(InputError, match="a path of 2 frames"):
        interpolate_mask(2, 3)


def drawn(
    settings: dict[str, float],
    windows: int = 4000,
    frames: int = 7,
    beads: int = 3,
    least_known: int = 1,
) -> Tasks:
    present = torch.ones(windows, frames, dtype=torch.bool)
    present[::2, 5:] = False
    zeros = dict.fromkeys(TASKS, 0.0)
    generator = torch.Generator().manual_seed(0)
    chosen = choose_tasks(windows, TaskSettings(**{**zeros, **settings}), generator)
    tasks = draw_masks(chosen, present, beads, least_known, generator)
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


def test_upsampling_knows_frames_beyond_most_gaps():
    tasks = drawn({"upsample": 1.0})
    known = tasks.known.all(dim=2)
    lengths = tasks.present.sum(dim=1)
    assert sorted(set(lengths[::2].tolist())) == [5]
    assert sorted(set(lengths[1::2].tolist())) == [5, 6, 7]
    begin = known.int().cumprod(dim=1).sum(dim=1)
    end = (known | ~tasks.present).flip(1).int().cumprod(dim=1).sum(dim=1) - (7 - lengths)
    gap = lengths - begin - end
    assert (known.sum(dim=1) == begin + end).all()  # there is one gap
    assert (gap >= 1).all()
    for beside in (begin, end):
        assert sorted(set(beside.tolist())) == [1, 2, 3]
        assert 0.08 < float((beside == 1).float().mean()) < 0.12


def test_residues_are_known_over_all_frames_in_inpainting():
    tasks = drawn({"inpaint": 1.0})
    lengths, rows = tasks.present.sum(dim=1), torch.arange(4000)
    assert sorted(set(lengths[1::2].tolist())) == [3, 4, 5, 6, 7]
    assert 0.55 < float((lengths[1::2] == 7).float().mean()) < 0.65  # half, and a fifth of the rest
    begin = tasks.known.all(dim=2).int().cumprod(dim=1).sum(dim=1)
    residues = tasks.known[rows, lengths - 1]
    assert sorted(set(residues.sum(dim=1).tolist())) == [1, 2]
    later = tasks.present & (torch.arange(7) >= begin[:, None])
    assert torch.equal(tasks.known & later[..., None], residues[:, None] & later[..., None])
    assert abs(float((begin == 0).float().mean()) - 0.5) < 0.05
    assert sorted(set(begin.tolist())) == [0, 1, 2, 3]


def test_as_many_residues_are_known_as_frames_are_superposed_by():
    for task in ("inpaint", "design"):
        tasks = drawn({task: 1.0}, beads=5, least_known=3)
        shown = tasks.known[:, 2].sum(dim=1)
        assert int(shown.min()) == 3
    tasks = drawn({"design": 1.0}, beads=3, least_known=3)
    assert not tasks.hidden.any()
    assert tasks.known[:, 0].all()


def test_gaps_are_shorter_than_a_lag_and_known_frames_beyond_them_far_away():
    shares = {"interpolate": 1.0, "upsample": 1.0, "forward": 1.0, "inpaint": 1.0, "ensemble": 1.0}
    tasks = drawn(shares, windows=8000)
    strides = torch.randint(1, 9, (8000,), generator=torch.Generator().manual_seed(1))
    shifts = uneven_times(tasks, strides, torch.Generator().manual_seed(2))
    places = torch.arange(7) * strides[:, None]
    places = places - torch.from_numpy(shifts.earlier) + torch.from_numpy(shifts.outward)
    steps = places.diff(dim=1)
    inside = tasks.present[:, 1:]
    assert (steps[inside] >= 1).all()
    whole = tasks.known.all(dim=2)
    lengths = tasks.present.sum(dim=1)
    between = whole[:, 0] & whole[torch.arange(8000), lengths - 1]
    short, far = (
        compared & inside for compared in (steps < strides[:, None], steps > strides[:, None])
    )
    assert not (short | far)[~between].any()
    # A gap is shorter where known frames at the end begin, or between the last two at the begin.
    gap_ends = ~whole[:, :-1] & whole[:, 1:]
    begin = whole.int().cumprod(dim=1).sum(dim=1)
    to_begin = torch.arange(6) == begin[:, None] - 2
    assert not (short & ~gap_ends & ~to_begin).any()
    some = between & (strides == 8)
    assert 0.35 < float((short & gap_ends)[some].any(dim=1).float().mean()) < 0.55
    lengths_of_short = steps[some][(short & gap_ends)[some]]
    assert sorted(set(lengths_of_short.tolist())) == list(range(1, 8))
    # Frames beyond both ends of a gap are as far away as it is long, or anywhere.
    rows = torch.arange(8000)
    end = (whole & (torch.arange(7) >= begin[:, None])).int().argmax(dim=1)
    gap = places[rows, end] - places[rows, begin.clamp(min=1) - 1]
    has_next, has_last = some & (end + 1 < lengths), some & (begin >= 2)
    behind = places[rows, (end + 1).clamp(max=6)] - places[rows, end]
    ahead = places[rows, begin.clamp(min=1) - 1] - places[rows, begin.clamp(min=2) - 2]
    for distances, found in ((behind, has_next), (ahead, has_last)):
        assert 0.35 < float((distances[found] > 8).float().mean()) < 0.55
        assert 0.2 < float((distances == gap)[found].float().mean()) < 0.4
        assert int(distances[found].max()) > 90
    others = far & ~(torch.arange(6) == end[:, None]) & ~to_begin
    assert not others.any()


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
