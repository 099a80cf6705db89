"""The law that torch finds all layers, parameters and tensors that a part keeps."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from calmkit.testing import laws
from calmkit.testing.laws import Subject

LAW = "what a part keeps is registered"


@laws.law(LAW)
def check_registered(part: Subject, module: nn.Module) -> None:
    """No layer, parameter or tensor in a plain attribute, a list or a dict, where torch never finds it.

    It would not be trained, saved, moved to a device or cast to a precision. What somebody else owns, such as
    an inner module of a wrapped part, is looked into too.
    """
    known = {id(value) for value in (*module.modules(), *module.parameters(), *module.buffers())}
    books = vars(nn.Module()).keys()  # torch's own
    for path, child in module.named_modules():
        for name, value in vars(child).items():
            for kept in () if name in books else _within(value):
                where = f"{path}.{name}" if path else name
                cure = (
                    "a buffer or a parameter"
                    if isinstance(kept, Tensor)
                    else "an nn.ModuleList or nn.ModuleDict"
                )
                seen = f"'{where}' holds a {type(kept).__name__} that torch does not find; {cure} would do"
                part.require(id(kept) in known, LAW, seen)


def _within(value: object) -> Iterator[nn.Module | Tensor]:
    """Layers and tensors in a value, and in the lists, tuples, sets and dicts that it is made of."""
    if isinstance(value, nn.Module | Tensor):
        yield value
    elif isinstance(value, dict):
        for kept in value.values():
            yield from _within(kept)
    elif isinstance(value, list | tuple | set | frozenset):
        for kept in value:
            yield from _within(kept)
