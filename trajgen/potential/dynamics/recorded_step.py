"""A step recorded once on a GPU and replayed as a whole.

A step launches some hundred small kernels. Of few chains each takes less time than its launch from
Python; a recorded step (a CUDA graph) is launched as one.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from trajgen.errors import InputError
from trajgen.potential.dynamics.state import State

#: Calls before the recording, in which libraries set up what they keep.
WARM_UP_CALLS = 3

#: Given a function of no arguments, run it once or not at all, and return what runs it again on the
#: tensors that it read and wrote.
Recorder = Callable[[Callable[[], None]], Callable[[], None]]


def require_recordable(device: torch.device) -> None:
    """Raise InputError where steps cannot be recorded: anywhere but on a GPU of NVIDIA."""
    if device.type != "cuda":
        raise InputError(
            f"recorded is true and the potential is on {device.type}; steps are recorded on a GPU "
            "(--device cuda), leave recorded out elsewhere"
        )


def cuda_graph(function: Callable[[], None]) -> Callable[[], None]:
    """Record the kernels of a function as a CUDA graph, and return what replays it."""
    before = torch.cuda.Stream()
    before.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(before):  # libraries must not set themselves up within a recording
        for _ in range(WARM_UP_CALLS):
            function()
    torch.cuda.current_stream().wait_stream(before)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    return graph.replay


class RecordedStep:
    """A step in the place of the one that it records: same argument, same result.

    It moves tensors of its own in place. The state that it returns is theirs, and holds until the
    next call.
    """

    def __init__(
        self,
        step: Callable[[State, Tensor], State],
        state: State,
        noise: Tensor,
        recorder: Recorder = cuda_graph,
    ) -> None:
        """Record a step.

        Args:
            step: what to record; it must not wait for the device.
            state: replicas like those that it will move.
            noise: noise like that of a step.
            recorder: how it is recorded.
        """
        self._state = State(**{name: value.clone() for name, value in state.tensors().items()})
        self._noise = noise.clone()

        def move() -> None:
            _copy(step(self._state, self._noise), self._state)

        self._replay = recorder(move)

    def __call__(self, state: State, noise: Tensor) -> State:
        """Return the replicas one step later, in tensors that the next call overwrites."""
        if state is not self._state:
            _copy(state, self._state)
        self._noise.copy_(noise)
        self._replay()
        return self._state


def _copy(source: State, target: State) -> None:
    into = target.tensors()
    for name, value in source.tensors().items():
        into[name].copy_(value)
