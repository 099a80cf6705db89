"""What to say of an exception, and which exit code it means. No traceback is among it."""

from __future__ import annotations

import importlib.metadata
import traceback

DONE, FAILED, USAGE, PLUGIN, INTERRUPTED = 0, 1, 2, 3, 130


def explain(error: BaseException) -> tuple[str, int]:
    """The lines for the user, and the exit code."""
    from calmkit.interfaces import DataError
    from calmkit.recipe.errors import RecipeError
    from calmkit.registry import UnknownPart

    if isinstance(error, KeyboardInterrupt):
        return ": ".join(filter(None, ("interrupted", str(error)))), INTERRUPTED
    if isinstance(error, RecipeError):
        return str(error), USAGE
    if isinstance(error, DataError | UnknownPart):
        return f"error: {error}", USAGE
    if _run_failed(error):
        code = getattr(error, "code", None)  # of one that was asked to stop
        return (f"error: {error}", FAILED) if code is None else (f"stopped: {error}", code)
    plugin = _plugin_of(error)
    if plugin:
        return f"plugin error: {plugin}: {_in_words(error)} (--debug shows the traceback)", PLUGIN
    return f"internal error: {_in_words(error)} (--debug shows the traceback)", FAILED


def _in_words(error: BaseException) -> str:
    text = str(error).strip().split("\n", 1)[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _run_failed(error: BaseException) -> bool:
    # Lightning is a heavy import, so the module is asked for only where it has raised something.
    import sys

    errors = sys.modules.get("calmkit.training.errors")
    return errors is not None and isinstance(error, errors.RunFailed)


def _plugin_of(error: BaseException) -> str | None:
    """The distribution of a guest whose code the error came through, the innermost one."""
    guests = {
        entry_point.module.partition(".")[0]: f"{entry_point.dist.name} {entry_point.dist.version}"
        for entry_point in importlib.metadata.entry_points(group="calmkit")
        if entry_point.dist is not None
    }
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    rooms = [str(frame.f_globals.get("__name__", "")).partition(".")[0] for frame in frames]
    return next((guests[room] for room in reversed(rooms) if room in guests), None)
