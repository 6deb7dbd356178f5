"""How a surrogate is trained, as settings."""

from pydantic import Field, model_validator

from trajgen.device import PrecisionName
from trajgen.settings import Settings
from trajgen.surrogate.conditioning import TaskSettings
from trajgen.surrogate.surrogate import SurrogateSettings
from trajgen.surrogate.transformer import SizeName

#: What networks of each size learn well with; those of the first two were tried, see
#: ``docs/surrogate.md``.
LEARNING_RATES: dict[SizeName, float] = {"tiny": 4e-3, "small": 1.5e-3, "base": 5e-4}


class TrainingSettings(Settings):
    """How a surrogate is trained.

    Attributes:
        steps: optimizer steps.
        max_minutes: end earlier, after this time; the learning rate then falls with time.
            Results are repeatable only without it.
        batch: windows of a step, over all processes.
        micro_batch: windows that go through the network at once on each process; None for all of
            them. It is halved by itself where a device runs out of memory.
        precision: ``bf16`` for products of the network in bfloat16, ``float32``, or ``auto`` for
            the former on a GPU and the latter on a CPU.
        learning_rate: highest learning rate; it rises over ``warmup_steps`` and falls as a cosine.
            None for that of the network's size: ``tiny`` 0.004, ``small`` 0.0015, ``base`` 0.0005.
        warmup_steps: steps over which the learning rate rises.
        weight_decay: share of the learning rate by which each step shrinks the weights.
        gradient_clip: largest norm of the gradient.
        average_decay: decay of the averaged weights, which are the ones that are kept.
        context_noise_nm: largest displacement of known beads in training.
        balance: how much more often windows with a known first frame begin in rare states: 0 for
            as often as the data have them, 1 for each state alike.
        backward: show half of the windows of trajectories that are labelled as at equilibrium, and
            have no weights, backward. Rare transitions count twice so; but it is wrong of short
            trajectories that have not yet forgotten where they began.
        validation_fraction: share of frames held out, by whole segments.
        validation_windows: windows that a validation looks at.
        validate_every: steps between validations.
        save_every: steps between saved training states.
        tensorboard: write the curves to OUT.tensorboard as well (``pip install tensorboard``).
    """

    steps: int = Field(default=20_000, ge=1)
    max_minutes: float | None = Field(default=None, gt=0)
    batch: int = Field(default=64, ge=1)
    micro_batch: int | None = Field(default=None, ge=1)
    precision: PrecisionName = "auto"
    learning_rate: float | None = Field(default=None, gt=0)
    warmup_steps: int = Field(default=100, ge=0)
    weight_decay: float = Field(default=0.01, ge=0)
    gradient_clip: float = Field(default=1.0, gt=0)
    average_decay: float = Field(default=0.999, ge=0, lt=1)
    context_noise_nm: float = Field(default=0.005, ge=0)
    balance: float = Field(default=0.0, ge=0, le=1)
    backward: bool = False
    validation_fraction: float = Field(default=0.1, ge=0, lt=1)
    validation_windows: int = Field(default=256, ge=1)
    validate_every: int = Field(default=500, ge=1)
    save_every: int = Field(default=500, ge=1)
    tensorboard: bool = False

    @model_validator(mode="after")
    def _one_of_both(self) -> "TrainingSettings":
        if self.backward and self.balance > 0:
            raise ValueError(
                f"backward is true and balance {self.balance:g}: backward, windows would end in "
                "the states that they are to begin in more often; choose one"
            )
        return self


class TrainSettings(Settings):
    """Settings of the whole of training."""

    model: SurrogateSettings = SurrogateSettings()
    tasks: TaskSettings = TaskSettings()
    training: TrainingSettings = TrainingSettings()

    @property
    def highest_learning_rate(self) -> float:
        """The learning rate that was asked for, or that of the network's size."""
        return self.training.learning_rate or LEARNING_RATES[self.model.network.size]
