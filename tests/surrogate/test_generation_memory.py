"""Generation holds neither its frames nor the file that it writes in memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("resource")

#: A chain of 40 beads; its windows are made without a network, since only memory is asked
#: about. What 450,001 frames of it take is 206 MiB.
SCRIPT = """
import resource, sys
from pathlib import Path
import numpy as np, torch
from toy_chain import LAG_PS, helix
from trajgen.data.records import BeadFrames
from trajgen.data.shards import ShardLabel
from trajgen.data.store import Dataset, DatasetHeader
from trajgen.data.topology import BeadTopology
from trajgen.data.writers import write_rollouts
from trajgen.surrogate.checkpoints import load_surrogate
from trajgen.surrogate.completing import RolloutSettings
from trajgen.surrogate.filling import upsample
from trajgen.surrogate.forward import forward
from trajgen.surrogate.surrogate import Surrogate, SurrogateSettings
from trajgen.surrogate.train import train_surrogate
from trajgen.surrogate.training_settings import TrainSettings, TrainingSettings
from trajgen.surrogate.transformer import NetworkSettings
from trajgen.work_folder import WorkFolder

BEADS, FRAMES, WINDOW, FACTOR, ROOM = 40, 450_001, 500, 20, 160 * 2**20
torch.set_num_threads(1)
folder, kept, task = Path(sys.argv[1]), sys.argv[2] == "in-memory", sys.argv[3]
topology = BeadTopology.from_residues(("ALA",) * BEADS)
shake = np.random.default_rng(0).normal(scale=0.01, size=(600, BEADS, 3))
moves = (helix(BEADS) + shake).astype(np.float32)
dataset = Dataset.create(folder / "data", DatasetHeader(topology))
label = ShardLabel("run", "import", "springs", 300.0, LAG_PS)
dataset.append_beads(label, BeadFrames(topology, moves, np.zeros(600, np.int64), LAG_PS))
settings = TrainSettings(
    model=SurrogateSettings(shortest_lag_ps=LAG_PS, longest_lag_ps=LAG_PS, window_frames=3,
                            network=NetworkSettings(size="tiny")),
    training=TrainingSettings(steps=1, batch=1, validation_windows=1),
)
cpu = torch.device("cpu")
surrogate = load_surrogate(train_surrogate([dataset], folder / "model", settings, 1, cpu), cpu)
surrogate.settings = surrogate.settings.model_copy(update={"window_frames": WINDOW})
again = torch.from_numpy(moves[:WINDOW])
Surrogate.complete = lambda self, positions_nm, *_: (
    again[: positions_nm.shape[1]].expand_as(positions_nm).clone()
)

def used():
    (line,) = [row for row in open("/proc/self/status") if row.startswith("VmData")]
    return 1024 * int(line.split()[1])

def generate(frames, out):
    work = None if kept else WorkFolder(out, {"seed": 1}, "generation")
    few = RolloutSettings()
    if task == "forward":
        made = forward(surrogate, moves[:1], frames, LAG_PS, few, 1, work=work)
    else:
        known_nm = moves[np.arange(1 + (frames - 1) // FACTOR) % len(moves)]
        made = upsample(surrogate, known_nm, FACTOR, FACTOR * LAG_PS, few, 1, work=work)
    assert made.positions_nm.shape[1] == frames
    write_rollouts(out, made, {})

generate(2 * WINDOW + 1, folder / "first.xtc")  # what any call takes is taken now
resource.setrlimit(resource.RLIMIT_DATA, (used() + ROOM, -1))
generate(FRAMES, folder / "long.xtc")
"""


def finished(folder: Path, where: str, task: str) -> subprocess.CompletedProcess[str]:
    folder.mkdir()
    tests = Path(__file__).parent
    # By default glibc keeps what was freed as it sees fit, now more and now less.
    steady = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), where, task],
        capture_output=True, text=True, check=False, cwd=tests, env=steady,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="asks Linux for the memory")
@pytest.mark.parametrize("task", ["forward", "upsample"])
def test_frames_stay_on_disk_while_they_are_made_and_written(tmp_path: Path, task: str) -> None:
    done = finished(tmp_path / "streamed", "on-disk", task)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "streamed" / "long.xtc").is_file()
    # The same limit is too little for the frames themselves.
    refused = finished(tmp_path / "kept", "in-memory", task)
    assert refused.returncode != 0
    assert "memory" in refused.stderr.lower()
