"""The group and the command classes: every verb takes `--debug`, every error becomes lines and a code.

| Code | Meaning                                                    |
|------|------------------------------------------------------------|
| 0    | done                                                       |
| 1    | a run failed                                               |
| 2    | wrong usage, recipe or data                                |
| 3    | a plugin failed                                            |
| 130  | interrupted                                                |
"""

from __future__ import annotations

from typing import Any, final

import click

DEBUG = "calmkit.debug"


def _remember(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    del parameter
    if value:
        context.find_root().meta[DEBUG] = True


def debug_option() -> click.Option:
    """`--debug`, the same before and after a verb."""
    return click.Option(
        ["--debug"], is_flag=True, expose_value=False, callback=_remember, help="Show tracebacks."
    )


@final
class Verb(click.Command):
    """A command with `--debug`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(debug_option())


@final
class Verbs(click.Group):
    """The whole program, and the one place where an exception meets the user."""

    command_class = Verb

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(debug_option())

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb; what it raises is told by `calmkit.cli.failures`; `--debug` adds the traceback."""
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.ClickException, BrokenPipeError):
            raise
        except (Exception, KeyboardInterrupt) as error:
            from calmkit.cli.failures import explain
            from calmkit.printed import printed

            message, code = explain(error)
            if ctx.find_root().meta.get(DEBUG):
                import traceback

                traceback.print_exception(error)
            click.echo(printed(message), err=True)
            ctx.exit(code)
