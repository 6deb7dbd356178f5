"""Training under ``accelerate launch``: the curve of one process, and exact resume after a kill."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from toy_chain import TOPOLOGY, make_dataset, tiny_settings, wobbling_chain
from training_process import card, command, kill, launched

from trajgen.checkpoint import training_folder
from trajgen.data.store import Dataset
from trajgen.data.topology import BeadTopology

#: The second process has no room for more than two windows, as it finds on their way back.
SMALL_DEVICE = """
import os
import sys
from pathlib import Path
import torch
from trajgen.surrogate import trainer
asked = trainer.window_losses
class Narrow(torch.autograd.Function):
    @staticmethod
    def forward(context, losses):
        return losses.clone()
    @staticmethod
    def backward(context, gradient):
        if len(gradient) > 2 and os.environ["RANK"] == "1":
            Path(sys.argv[-1] + ".full").touch()
            raise torch.OutOfMemoryError
        return gradient
trainer.window_losses = lambda network, question: Narrow.apply(asked(network, question))
"""

#: Three processes import torch on one core where other tests run beside.
PATIENCE_S = 240


@pytest.fixture
def smaller(tmp_path: Path) -> Dataset:
    """A molecule of fewer residues: windows of both cannot go through the network at once."""
    topology = BeadTopology.from_residues(TOPOLOGY.residues[:-1])
    segments = [wobbling_chain(200, seed)[:, :-1] for seed in (20, 21)]
    return make_dataset(tmp_path / "smaller", segments, topology=topology)


@pytest.mark.slow
def test_several_processes_have_the_loss_curve_of_one(
    dataset: Dataset, smaller: Dataset, tmp_path: Path
):
    """However windows of two molecules are shared out, and whether or not all fit at once."""
    both, settings = [dataset, smaller], tiny_settings(8, batch=12)
    one = subprocess.run([sys.executable, *command(both, settings, tmp_path / "one")], check=False)
    assert one.returncode == 0
    expected = card(tmp_path / "one")
    assert expected["processes"] == 1
    for processes, micro_batch in ((2, None), (3, 3)):
        shared = tiny_settings(8, batch=12, micro_batch=micro_batch)
        out = tmp_path / f"by-{processes}"
        with launched(processes, command(both, shared, out)) as several:
            assert several.wait(timeout=PATIENCE_S) == 0
        assert card(out)["processes"] == processes
        for first, second in zip(expected["curve"], card(out)["curve"], strict=True):
            assert first["step"] == second["step"]
            assert first["train"] == pytest.approx(second["train"], rel=1e-4)
            assert first["validation"] == pytest.approx(second["validation"], rel=1e-4)


@pytest.mark.slow
def test_no_process_waits_for_one_that_runs_out_of_memory(dataset: Dataset, tmp_path: Path):
    settings = tiny_settings(4, batch=12)
    wide, narrow = tmp_path / "wide", tmp_path / "narrow"
    for out, before in ((wide, ""), (narrow, SMALL_DEVICE)):
        with launched(2, command([dataset], settings, out, before)) as process:
            assert process.wait(timeout=PATIENCE_S) == 0
        assert out.with_name(f"{out.name}.full").exists() == bool(before)
    for first, second in zip(card(wide)["curve"], card(narrow)["curve"], strict=True):
        assert first["train"] == pytest.approx(second["train"], rel=1e-4)


@pytest.mark.slow
def test_two_processes_that_were_killed_go_on_to_the_same_bits(dataset: Dataset, tmp_path: Path):
    settings = tiny_settings(16)
    with launched(2, command([dataset], settings, tmp_path / "whole")) as process:
        assert process.wait(timeout=PATIENCE_S) == 0
    resumed = command([dataset], settings, tmp_path / "resumed")
    state = training_folder(tmp_path / "resumed") / "state.json"
    with launched(2, resumed) as process:
        while process.poll() is None and not state.is_file():
            time.sleep(0.01)
        kill(process)
        assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "resumed").exists()
    with launched(2, resumed) as process:
        assert process.wait(timeout=PATIENCE_S) == 0
    assert card(tmp_path / "whole")["curve"] == card(tmp_path / "resumed")["curve"]
    first = load_file(tmp_path / "whole" / "model.safetensors")
    second = load_file(tmp_path / "resumed" / "model.safetensors")
    assert all(torch.equal(first[name], second[name]) for name in first)
