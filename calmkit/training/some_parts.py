"""Some parts of another run, say embedder and backbone, in a model whose other parts are fresh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from calmkit.model import CalmModel
from calmkit.training.checkpoints import read_tensors
from calmkit.training.errors import RunFailed
from calmkit.training.run import Run

KEY = "stages.lm.init_parts"


def check_parts(source: Path, model: CalmModel, parts: Sequence[str]) -> None:
    """Refuse parts of another run that have other tensors than the model's.

    Args:
        source: The other run.
        model: With or without numbers.
        parts: Names, such as `backbone`; none: nothing is asked.

    Raises:
        RunFailed: Naming part, tensor and what would do; or the run's weights can't be read.
    """
    if not parts:
        return
    theirs = read_tensors(Run(source).weights)
    for name in parts:
        _check(source, name, _of(theirs, name), model.get_submodule(name))


def load_parts(source: Path, model: CalmModel, parts: Sequence[str]) -> dict[str, Tensor]:
    """Load parts of another run into a model; the others stay as they are.

    Returns:
        The tensors of that run's autoencoder, on which they rest.

    Raises:
        RunFailed: As `check_parts`.
    """
    theirs = read_tensors(Run(source).weights)
    for name in parts:
        part, mine = model.get_submodule(name), _of(theirs, name)
        _check(source, name, mine, part)
        part.load_state_dict(mine, strict=False)
    return _of(theirs, "autoencoder")


def _of(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    lead = f"{part}."
    return {name.removeprefix(lead): value for name, value in tensors.items() if name.startswith(lead)}


def _check(source: Path, part: str, theirs: Mapping[str, Tensor], module: nn.Module) -> None:
    own = module.state_dict(keep_vars=True)
    there = {id(own[name]) for name in theirs if name in own}  # tied tensors are written once
    wanted = {name: value for name, value in own.items() if name in theirs or id(value) not in there}
    for name in sorted(wanted.keys() | theirs.keys()):
        shapes = [list(one[name].shape) if name in one else None for one in (theirs, wanted)]
        if shapes[0] != shapes[1]:
            told = ["not there" if shape is None else str(shape) for shape in shapes]
            raise RunFailed(
                f"{KEY}: the {part} of {source} does not fit: its tensor {name} is {told[0]} in that run, "
                f"{told[1]} in this recipe. Give the {part} the settings that it has there, or leave it out "
                f"of {KEY}."
            )
