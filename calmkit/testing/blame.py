"""Which call broke a law: told from the traceback of what came out of a part."""

from __future__ import annotations

import linecache
import traceback
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import FrameType

from torch import Tensor, nn

KIT = Path(__file__).parent
PASSING_ON = ("with_seed", "checked", "under")  # of the kit: they say nothing of what was called
TORCH_CALLS = nn.Module.__call__.__code__.co_filename  # where `module(x)` becomes `module.forward(x)`


def call_behind(error: BaseException, cls: type) -> str:
    """The call of a part that an exception came through, with shapes, and the line where it broke.

    The part's own outermost call, such as `loss(context=Context(h=[3, 16]), ...)`; where the exception met no
    code of the part, the line of the kit that could not do with it.
    """
    frames = list(traceback.walk_tb(error.__traceback__))
    of_part = next((i for i, (frame, _) in enumerate(frames) if _is_of(frame, cls)), None)
    if of_part is None:
        return _line_of_kit(frames)
    frame = frames[of_part][0]
    file = frame.f_code.co_filename
    line = [number for inner, number in frames[of_part:] if inner.f_code.co_filename == file][-1]
    return f"{_call(frame)} ({Path(file).name}, line {line})"


def _is_of(frame: FrameType, cls: type) -> bool:
    return isinstance(frame.f_locals.get("self"), cls) and frame.f_code.co_filename != TORCH_CALLS


def _line_of_kit(frames: list[tuple[FrameType, int]]) -> str:
    """The innermost line of the kit before its callees."""
    told = [(frame, line) for frame, line in frames if frame.f_code.co_name not in PASSING_ON] or frames
    places = [(frame.f_code.co_filename, line) for frame, line in told]
    inside = [place for place in places if Path(place[0]).parent == KIT]
    file, line = inside[-1] if inside else places[-1]
    return f"`{linecache.getline(file, line).strip()}`"


def _call(frame: FrameType) -> str:
    code = frame.f_code
    names = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
    told = ", ".join(f"{name}={_told(frame.f_locals.get(name))}" for name in names)
    return f"{code.co_name}({told})"


def _told(value: object) -> str:
    """Shapes instead of numbers."""
    if isinstance(value, Tensor):
        return str(list(value.shape))
    if is_dataclass(value) and not isinstance(value, type):
        given = {field.name: getattr(value, field.name) for field in fields(value) if field.repr}
        told = ", ".join(f"{name}={_told(kept)}" for name, kept in given.items() if kept is not None)
        return f"{type(value).__name__}({told})"
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_told, value)) + "]"
    return type(value).__name__
