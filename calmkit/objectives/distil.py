"""distil: a model learns from the draws of another one, many for every context.

The data show one continuation of each context, a teacher as many as are asked for. Of a proper score nothing
but the targets changes, so the best pupil is the teacher's law, and with it all that the teacher got wrong.

Source: Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015
(https://arxiv.org/abs/1503.02531), here from samples alone, as Kim and Rush, Sequence-Level Knowledge
Distillation, 2016, section 3.2 (https://arxiv.org/abs/1606.07947), whose targets are a teacher's outputs.
"""

from __future__ import annotations

from typing import Any, final

from calmkit.hookspecs import hookimpl
from calmkit.interfaces import Batch, Objective, SampleOptions, UnitLoss
from calmkit.nn.settings import require_at_least
from calmkit.objectives.drawn import draws_of, in_values_of, placed


@final
class DistilObjective(Objective):
    """The loss of the head on draws of a teacher, which reads the same data.

    The teacher rests on the same autoencoder, or on one without parameters, such as of ids, whose units are
    the same; then its draws are encoded. Any head can learn: one that takes targets known by draws
    (`TakesDraws`) gets all of them, another one a single draw of them for each unit.

    Args:
        teacher: The folder of a finished run.
        num_targets: R, draws of the teacher for each unit and step.
        num_steps: Of an iterative teacher, fewer than its own for cheaper draws; null: its own.
    """

    runs = ("teacher",)

    def __init__(
        self, *, teacher: str | None = None, num_targets: int = 16, num_steps: int | None = None
    ) -> None:
        require_at_least("distil", 1, num_targets=num_targets, num_steps=num_steps)
        self.teacher, self.draws = teacher, num_targets
        self.options = None if num_steps is None else SampleOptions(num_steps=num_steps)

    def loss(self, model: Any, batch: Batch) -> UnitLoss:
        """One value for each unit that counts, in the head's own unit."""
        keep = model.counted(batch)
        if not keep.any():
            return model.loss(batch)
        teacher = self.models["teacher"]
        drawn = draws_of(teacher, batch, keep, self.draws, self.options)
        return model.loss(batch, placed(in_values_of(model, teacher, batch, keep, drawn), keep))


@hookimpl
def calmkit_objectives() -> dict[str, type[Objective]]:
    """The parts of this module."""
    return {"distil": DistilObjective}
