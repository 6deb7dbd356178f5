"""The settings of a run: read, completed, and refused where they cannot work together."""

from pathlib import Path
from typing import Any

from pydantic import Field

from al.backmapping.settings import BackmappingSettings
from al.executor import ExecutorSettings
from al.molecule.gpus import usable_gpus
from al.molecule.settings import SystemSettings
from al.oracle.settings import OracleSettings
from al.parts.explorer import ExplorationSettings
from al.parts.learner import LearnerSettings
from al.parts.sampler import SamplingSettings
from al.selection.settings import SelectionSettings
from trajgen.analysis.evaluate import EvaluationSettings
from trajgen.device import choose_device
from trajgen.errors import InputError
from trajgen.potential.dynamics.recorded_step import require_recordable
from trajgen.potential.ensemble_settings import EnsembleSettings
from trajgen.potential.fit import FitSettings
from trajgen.settings import Settings, apply_override, parse_settings, read_yaml
from trajgen.surrogate.completing import LAG_MARGIN
from trajgen.surrogate.training_settings import TrainSettings


class LoopFitSettings(FitSettings):
    """Choices of a fit in the loop: those of ``trajgen fit``, but by default of forces alone.

    Frames that start from chosen conformations teach forces, not populations. To match the ensemble
    of the first short run, which has not seen most of them, would keep the chains where it was.
    """

    ensemble: EnsembleSettings | None = None


class RunSettings(Settings):
    """Everything that a run of the loop depends on.

    In the YAML file any section may be the path of another YAML file, relative to the first.

    Attributes:
        system: the molecule and its force field.
        seed: base of every random draw.
        rounds: rounds of active learning after round 0.
        sampling: plain all-atom dynamics before round 0.
        potential: fitting of the CGSchNet potential.
        surrogate: training of the trajectory surrogate.
        learner: how both trainings are started.
        exploration: what both generators do.
        selection: which of their frames are chosen.
        backmapping: how chosen frames are lifted to atoms.
        oracle: the all-atom run from each.
        evaluation: the measures.
        executor: processes of all-atom work.
    """

    system: SystemSettings
    seed: int = Field(default=0, ge=0)
    rounds: int = Field(default=2, ge=0)
    sampling: SamplingSettings = SamplingSettings()
    potential: LoopFitSettings = LoopFitSettings()
    surrogate: TrainSettings = TrainSettings()
    learner: LearnerSettings = LearnerSettings()
    exploration: ExplorationSettings = ExplorationSettings()
    selection: SelectionSettings = SelectionSettings()
    backmapping: BackmappingSettings = BackmappingSettings()
    oracle: OracleSettings = OracleSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    executor: ExecutorSettings = ExecutorSettings()


def load_run_settings(path: Path, overrides: tuple[str, ...] | list[str] = ()) -> RunSettings:
    """Read the settings of a run; sections that are paths are read from their files.

    Raises:
        InputError: a file that is missing, an unknown key, a value of the wrong kind, or settings
            that cannot work together.
    """
    values = read_yaml(path)
    for name, section in values.items():
        if isinstance(section, str) and name in _sections():
            file = path.parent / section
            values[name] = read_yaml(file)
            if name == "system":
                anchor_pdb(values[name], file.parent)
    for override in overrides:
        apply_override(values, override)
    if isinstance(values.get("system"), dict):  # also what an override named
        anchor_pdb(values["system"], path.parent)
    settings = parse_settings(RunSettings, values, str(path))
    _check_together(settings)
    return settings


def _sections() -> list[str]:
    return [
        name
        for name, field in RunSettings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings)
    ]


def anchor_pdb(system: dict[str, Any], folder: Path) -> None:
    """Make the path of a PDB file in raw system settings absolute."""
    if isinstance(system.get("pdb"), str):
        system["pdb"] = str((folder / system["pdb"]).resolve())


def _check_together(settings: RunSettings) -> None:
    """Refuse now what would only fail after hours."""
    _check_times(settings)
    _check_exploration(settings)
    choose_device(settings.learner.device)
    usable_gpus(settings.executor.device)
    for name, minutes in (
        ("potential", settings.potential.training.max_minutes),
        ("surrogate", settings.surrogate.training.max_minutes),
    ):
        if minutes is not None:
            raise InputError(
                f"{name}.training.max_minutes is {minutes:g}; inside the loop every budget is a "
                "count, so that a run can be repeated: set training.steps instead"
            )


def _check_times(settings: RunSettings) -> None:
    """Require that simulations, save intervals, time steps and lags fit each other."""
    sampling, oracle = settings.sampling, settings.oracle
    lag_ps = settings.surrogate.model.shortest_lag_ps
    if lag_ps is None and sampling.save_interval_ps != oracle.save_interval_ps:
        raise InputError(
            f"sampling.save_interval_ps is {sampling.save_interval_ps:g} and "
            f"oracle.save_interval_ps {oracle.save_interval_ps:g}: the surrogate needs a lag that "
            "both have; make them equal, or set surrogate.model.shortest_lag_ps to a multiple of "
            "both"
        )
    for name, ps, interval_ps in (
        ("sampling", sampling.ps, sampling.save_interval_ps),
        ("sampling", sampling.reference_ps, sampling.save_interval_ps),
        ("oracle", oracle.ps, oracle.save_interval_ps),
    ):
        saved = f"{name}.save_interval_ps"
        _require_multiple(f"{name} time", ps, saved, interval_ps)
        # A failed task is tried again with half the step, which then fits too.
        _require_multiple(saved, interval_ps, "the time step", settings.system.time_step_ps)
        lag_here_ps = lag_ps or interval_ps
        _require_multiple("surrogate.model.shortest_lag_ps", lag_here_ps, saved, interval_ps)
        # Frames at 1, 2 ... n intervals span n - 1 of them.
        if ps - interval_ps < 2 * lag_here_ps * (1 - 1e-9):
            raise InputError(
                f"{name} saves frames over {ps - interval_ps:g} ps ({ps:g} ps less one interval), "
                f"shorter than two surrogate lags of {lag_here_ps:g} ps: the surrogate could not "
                f"learn from it; make {name}.ps longer, or surrogate.model.shortest_lag_ps shorter"
            )


def _check_exploration(settings: RunSettings) -> None:
    """Require what the models are going to be asked for to be possible."""
    dynamics = settings.exploration.potential.dynamics
    if dynamics.save_every > dynamics.steps:
        raise InputError(
            f"exploration.potential.dynamics saves every {dynamics.save_every} steps but has "
            f"{dynamics.steps}; make steps larger"
        )
    dynamics.ladder(settings.system.temperature_K)
    device = choose_device(settings.exploration.device)
    if dynamics.recorded:
        require_recordable(device)
    tasks = settings.surrogate.tasks
    if tasks.forward == 0 or (settings.exploration.surrogate.pairs and tasks.interpolate == 0):
        raise InputError(
            "the loop asks the surrogate for rollouts and for paths, and surrogate.tasks.forward "
            "or surrogate.tasks.interpolate is 0; give both a weight, or ask for no path: "
            "exploration.surrogate.pairs=0"
        )
    lag_ps, model = settings.exploration.surrogate.lag_ps, settings.surrogate.model
    shortest_ps = model.shortest_lag_ps or settings.sampling.save_interval_ps
    longest_ps = model.longest_lag_ps or settings.sampling.ps
    if lag_ps is not None and not shortest_ps / LAG_MARGIN <= lag_ps <= longest_ps * LAG_MARGIN:
        raise InputError(
            f"exploration.surrogate.lag_ps is {lag_ps:g}, and the surrogate is trained at lags of "
            f"{shortest_ps:g} to at most {longest_ps:g} ps; ask for one of these, or change "
            "surrogate.model.shortest_lag_ps and longest_lag_ps"
        )


def _require_multiple(name: str, value: float, of_name: str, of: float) -> None:
    ratio = value / of
    if round(ratio) < 1 or abs(ratio - round(ratio)) > 1e-6 * ratio:
        raise InputError(f"{name} of {value:g} ps is no multiple of {of_name}, {of:g} ps")
