"""`calmkit`: the program."""

from __future__ import annotations

import click

from calmkit.cli import (
    calibrate,
    compare,
    cp,
    diff,
    docs,
    evaluate,
    explain,
    export,
    generate,
    import_,
    lm_eval,
    ls,
    plan,
    reproduce,
    resume_check,
    schema,
    show,
    study,
    train,
    validate,
)
from calmkit.cli.verbs import Verb, Verbs


def _version(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    del parameter
    if value:
        import importlib.metadata

        try:
            click.echo(f"calmkit {importlib.metadata.version('calmkit')}")
        except importlib.metadata.PackageNotFoundError:
            click.echo("calmkit, from a folder that is not installed")
        context.exit()


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print it."
)
def cli() -> None:
    """Continuous autoregressive models: train, sample, measure and compare them from YAML recipes."""


cli.command("ls")(ls.ls)
cli.command("show")(show.show)
cli.command("cp")(cp.cp)
cli.command("diff")(diff.diff)
cli.command("validate")(validate.validate)
cli.command("schema")(schema.schema)
cli.command("explain")(explain.explain)
cli.command("plan")(plan.plan)
cli.command("train")(train.train)
cli.command("resume-check")(resume_check.resume_check)
cli.command("reproduce")(reproduce.reproduce)
cli.command("eval")(evaluate.evaluate)
cli.command("generate")(generate.generate)
cli.command("calibrate")(calibrate.calibrate)
cli.command("lm-eval")(lm_eval.lm_eval)
cli.command("export")(export.export)
cli.command("compare")(compare.compare)
cli.command("docs")(docs.docs)


@cli.group("import", cls=click.Group)
def imports() -> None:
    """A run folder from a checkpoint of other code."""


imports.command_class = Verb
imports.command("official")(import_.official)


@cli.group("study", cls=click.Group)
def studies() -> None:
    """Many runs, one table."""


studies.command_class = Verb
studies.command("plan")(study.plan)
studies.command("run")(study.run)
studies.command("status")(study.status)
studies.command("resume")(study.resume)
studies.command("report")(study.report)
studies.command("measure", hidden=True)(study.measure)


def main() -> None:
    """The console script."""
    cli(prog_name="calmkit")


if __name__ == "__main__":
    main()
