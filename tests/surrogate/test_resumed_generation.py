"""Generation in a work folder: killed at any step it goes on, to the bits of one in memory."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from test_filling import any_lag
from test_forward import SETTINGS, STARTS
from toy_chain import LAG_PS, wobbling_chain

from trajgen.data.records import Rollouts
from trajgen.errors import InputError
from trajgen.surrogate import canvas
from trajgen.surrogate.canvas import Canvas
from trajgen.surrogate.ensemble import ensemble
from trajgen.surrogate.filling import interpolate, upsample
from trajgen.surrogate.forward import forward
from trajgen.surrogate.inpaint import inpaint
from trajgen.surrogate.surrogate import Surrogate
from trajgen.work_folder import WorkFolder

FEW = SETTINGS.model_copy(update={"batch": 4})
KNOWN = np.array([True, True, False, False, True])
TASKS: dict[str, Callable[[Surrogate, WorkFolder | None], Rollouts]] = {
    "forward": lambda model, work: forward(model, STARTS[:3], 31, LAG_PS, FEW, 1, work=work),
    "interpolate": lambda model, work: interpolate(
        model, STARTS[0], STARTS[4], 40, 2, 1.0, FEW, 1, work=work
    ),
    "upsample": lambda model, work: upsample(
        model, wobbling_chain(9, 3), 7, 2.0, FEW, 1, work=work
    ),
    "inpaint": lambda model, work: inpaint(
        model, wobbling_chain(20, 2), KNOWN, 2, LAG_PS, FEW, 1, work=work
    ),
    "ensemble": lambda model, work: ensemble(model, 14, FEW, 1, work=work),
}


class Killed(BaseException):
    """What a test raises in the middle of the work."""


@pytest.mark.parametrize("chosen", [None, 0.3])
@pytest.mark.parametrize("task", TASKS)
def test_beads_go_back_as_far_as_was_chosen(
    task: str,
    chosen: float | None,
    surrogate: Surrogate,
    first_restart: Callable[[Callable[[], object]], float],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setitem(globals(), "FEW", FEW.model_copy(update={"restart": chosen}))
    assert first_restart(lambda: TASKS[task](any_lag(surrogate), None)) == (chosen or 0.0)


@pytest.mark.parametrize("task", TASKS)
def test_a_killed_generation_goes_on_to_the_same_bits(
    task: str, surrogate: Surrogate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(canvas, "STORE_SECONDS", 0.0)
    model, run = any_lag(surrogate), TASKS[task]
    whole = run(model, None)
    calls = 0
    complete = Surrogate.complete

    def counted(self: Surrogate, *arguments: object) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == stop:
            raise Killed
        return complete(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Surrogate, "complete", counted)
    stop = 3
    with pytest.raises(Killed):
        run(model, WorkFolder(tmp_path / "out.xtc", {"seed": 1}, "generation"))
    stop, before = -1, calls
    resumed = run(model, WorkFolder(tmp_path / "out.xtc", {"seed": 1}, "generation"))
    in_one_go = calls - before
    calls = 0
    run(model, None)
    assert in_one_go == calls - 2  # two batches were done before the kill, and not again
    assert np.array_equal(resumed.positions_nm, whole.positions_nm)
    assert np.array_equal(resumed.alive, whole.alive)


def test_work_of_another_request_is_refused(tmp_path: Path):
    folder = WorkFolder(tmp_path / "out.xtc", {"seed": 1, "frames": 9}, "generation")
    Canvas(1, 4, 3, folder)
    del folder
    with pytest.raises(InputError, match="holds a generation under way with another seed; give"):
        WorkFolder(tmp_path / "out.xtc", {"seed": 2, "frames": 9}, "generation")


def test_work_that_was_killed_as_it_began_is_begun_anew(tmp_path: Path):
    folder = WorkFolder(tmp_path / "out.xtc", {"seed": 1}, "generation")
    Canvas(1, 4, 3, folder)
    (folder.path / "positions.f32").unlink()  # it appears after the file that counts the steps
    assert Canvas(1, 4, 3, folder).done == 0
    assert (folder.path / "positions.f32").is_file()


def test_damaged_work_is_refused(tmp_path: Path):
    folder = WorkFolder(tmp_path / "out.xtc", {"seed": 1}, "generation")
    Canvas(1, 4, 3, folder)
    (folder.path / "steps.json").unlink()
    with pytest.raises(InputError, match="is damaged; remove the folder"):
        Canvas(1, 4, 3, folder)


def test_frames_that_are_not_finite_are_found_in_pieces(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(canvas, "CHUNK_VALUES", 40)
    made = Canvas(2, 7, 3, None)
    made.positions_nm[1, 4, 2, 0] = torch.nan
    found = made.finite()
    assert (~found).nonzero().tolist() == [[1, 4]]
