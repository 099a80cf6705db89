"""StepClock: how long a training step of a recipe takes on this machine, by doing a few on made-up data."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from calmkit.data.digest import digest
from calmkit.interfaces import Batch, NotTrainable
from calmkit.metrics.made_up import made_up_batch
from calmkit.recipe.assemble import assemble
from calmkit.recipe.dump import to_yaml
from calmkit.recipe.objectives import build_objective
from calmkit.recipe.parts import kind_of
from calmkit.recipe.plan import plan
from calmkit.recipe.schema import Recipe
from calmkit.registry import Manager
from calmkit.training.checkpoints import write_json
from calmkit.training.environment import check_devices
from calmkit.training.errors import RunFailed
from calmkit.training.progress import quiet_libraries
from calmkit.training.run import read_json
from calmkit.training.trainer import make_trainer

WARM_UP, TIMED = 1, 3  # steps


@dataclass
class StepClock:
    """Times each recipe once.

    Data, logging and validation are left out.

    Attributes:
        threads: Of the CPU: one, as the local launcher gives each process where it fills the cores.
        before: Called once, before the first step is timed; what it raises is raised. None: nothing is.
    """

    manager: Manager
    threads: int = 1
    before: Callable[[], None] | None = None
    _known: dict[str, tuple[float, float]] = field(default_factory=dict)

    def load(self, file: Path) -> StepClock:
        """Take over what was timed before: a study that goes on must not find another budget."""
        if file.is_file():
            self._known |= {key: (step, first) for key, (step, first) in read_json(file).items()}
        return self

    def save(self, file: Path) -> None:
        """Keep what was timed."""
        write_json(file, self._known)

    def seconds(self, recipe: Recipe) -> tuple[float, float]:
        """Of one step of stage 2, and of the whole of stage 1.

        Raises:
            RecipeError: CK150 where no device of this machine can take the step; what `before` raises.
        """
        key = digest(to_yaml(_without_what_costs_nothing(recipe)))
        if key not in self._known:
            before, self.before = self.before, None
            if before is not None:
                before()
            threads = torch.get_num_threads()
            torch.set_num_threads(self.threads)
            try:
                with torch.random.fork_rng(devices=[]):
                    self._known[key] = self._timed(recipe)
            finally:
                torch.set_num_threads(threads)
        step, first_step = self._known[key]
        first = recipe.stages.autoencoder
        return step, 0.0 if first is None or first.init_from else first_step * first.max_steps

    def _timed(self, recipe: Recipe) -> tuple[float, float]:
        quiet_libraries()
        kind = kind_of(recipe, self.manager)
        sizes = kind.known_sizes(recipe, self.manager)
        try:
            trainer = make_trainer(recipe)
        except RunFailed:
            check_devices(recipe)  # steps are timed here, wherever the processes will run
            raise
        device, precision = trainer.strategy.root_device, trainer.precision_plugin
        model = assemble(recipe, self.manager, sizes).to(device)
        second, first = recipe.stages.lm, recipe.stages.autoencoder
        assert second is not None
        units = kind.num_units(recipe, model.autoencoder) if model.layout is None else math.prod(model.layout)
        accumulate = recipe.trainer.accumulate

        def batch(rows: int) -> Batch:
            return made_up_batch(model.autoencoder, rows, units, device)

        if model.transform is not None:  # a scale of made-up values takes as long as that of real ones
            with torch.no_grad():
                model.transform.fit([model.autoencoder.encode(batch(second.batch_size).data).mean])

        def model_step() -> torch.Tensor:
            with precision.forward_context():
                return model.loss(batch(second.batch_size)).per_unit.mean()

        step = accumulate * _seconds_of(model_step, model) * self._with_objective(recipe)
        if first is None or first.init_from:
            return step, 0.0
        autoencoder = model.autoencoder.requires_grad_(True).train()

        def first_step() -> torch.Tensor:
            with precision.forward_context():
                return autoencoder.loss(batch(first.batch_size).data).per_unit.mean()

        try:
            return step, accumulate * _seconds_of(first_step, autoencoder)
        except NotTrainable:
            return step, 0.0

    def _with_objective(self, recipe: Recipe) -> float:
        """How much longer a step is with what its objective asks of other runs, which may not be there yet:
        going by FLOPs.
        """
        assert recipe.stages.lm is not None
        if not build_objective(recipe, self.manager).runs:
            return 1.0
        flops = plan(recipe, self.manager).stages["lm"].train_flops
        return sum(flops.values()) / (sum(flops.values()) - flops["objective"])


def _seconds_of(loss: Callable[[], torch.Tensor], module: torch.nn.Module) -> float:
    """The quickest of a few steps of AdamW: what else the machine did can only slow one down."""
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad])
    times = []
    for _ in range(WARM_UP + TIMED):
        began = time.perf_counter()
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()
        times.append(time.perf_counter() - began)
    return min(times[WARM_UP:])


def _without_what_costs_nothing(recipe: Recipe) -> Recipe:
    """A recipe whose text is equal for all that take the same step: seeds, lengths and names are left out."""
    stages = recipe.stages
    first, second = stages.autoencoder, stages.lm
    assert second is not None
    stages = dataclasses.replace(
        stages,
        autoencoder=None if first is None else dataclasses.replace(first, max_steps=1, gate=None),
        lm=dataclasses.replace(second, max_steps=1, eval_every=1),
    )
    return dataclasses.replace(recipe, name="timed", description="", seed=0, stages=stages)
