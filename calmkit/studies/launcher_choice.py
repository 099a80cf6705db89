"""Which launcher starts a study's processes: what its file says, and what the command line says on top."""

from __future__ import annotations

from collections.abc import Sequence

from calmkit.recipe.build import build_part_spec
from calmkit.recipe.errors import refuse
from calmkit.recipe.overrides import read_overrides
from calmkit.recipe.schema import PartSpec
from calmkit.recipe.tree import Keys, Scalar
from calmkit.registry import Manager


def is_launcher(override: str) -> bool:
    """Whether an override is about the launcher and not about recipes."""
    return override.partition("=")[0].strip().partition(".")[0] == "launcher"


def read_launcher(root: Keys, overrides: Sequence[str], manager: Manager) -> PartSpec:
    """The launcher and its settings; the command line has the last word.

    Raises:
        RecipeError: CK120, CK130 to CK132 as for a part of a recipe, CK145 where it refuses its settings.
    """
    node = root.nodes.get("launcher", Scalar("local", root.mark))
    tree = Keys({"launcher": node}, root.mark, {"launcher": root.key_marks.get("launcher", root.mark)})
    for one in [tree, *read_overrides([o for o in overrides if is_launcher(o)])]:
        said = one.nodes["launcher"]
        if isinstance(said, Scalar):
            said = Keys({"name": said}, said.mark, {"name": said.mark})
        if not isinstance(said, Keys):
            raise refuse("CK132", "a launcher is a name, or a mapping of a name and settings", said.mark)
        before = tree.nodes["launcher"]
        if isinstance(before, Keys) and said is not before and "name" not in said.nodes:
            for key, child in said.nodes.items():
                before = before.with_key(key, child, said.key_marks[key])
            said = before
        tree = Keys({"launcher": said}, tree.mark, tree.key_marks)
    said = tree.nodes["launcher"]
    assert isinstance(said, Keys)
    spec = build_part_spec("launcher", said, manager)
    try:
        manager.build("launchers", spec.name, spec.options)
    except ValueError as error:
        raise refuse("CK145", f"launcher '{spec.name}': {error}", said.mark, "launcher") from error
    return spec
