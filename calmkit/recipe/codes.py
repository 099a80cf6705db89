"""codes: every code that an error of a recipe or a study bears: its meaning, its cure, and an example.

`calmkit explain CODE` shows one; a test holds that each code has its place here, and that each example gives
its code and no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

EXAMPLE = "example.yaml"


@final
@dataclass(frozen=True)
class Code:
    """A code of an error.

    Attributes:
        meaning: In one line.
        cure: What would do.
        example: A file that gives it.
        command: That is given the file, as words behind `calmkit`.
        note: What the example needs that calmkit does not bring; empty: nothing.
    """

    meaning: str
    cure: str
    example: str
    command: tuple[str, ...] = ("validate", EXAMPLE)
    note: str = ""


def tiny(text: str, parent: str = "energy") -> str:
    """A child of a tiny recipe."""
    return f"extends: tiny/{parent}\n{text}\n"


CODES: Mapping[str, Code] = {
    "CK100": Code(
        "no such recipe, or its file cannot be read",
        "The error names the nearest; `calmkit ls recipes` lists those that come with calmkit. A file "
        "of your own "
        "ends in .yaml and is UTF-8.",
        "extends: tiny/enrgy\n",
    ),
    "CK101": Code(
        "the file is not YAML",
        "The error shows the line. Brackets and quotes must be closed, and lines of one mapping begin "
        "in one column.",
        tiny("head: {num_draws: 4"),
    ),
    "CK102": Code(
        "a YAML tag, anchor or alias, which recipes do without",
        "Write the value itself; `extends` shares what several recipes have. A text that begins with * "
        "or & stands "
        "in quotes.",
        tiny("seed: &n 3"),
    ),
    "CK103": Code(
        "a key stands twice",
        "Keep one of the two; the error names both places.",
        tiny("seed: 1\nseed: 2"),
    ),
    "CK104": Code(
        "`extends` runs in a circle",
        "Take `extends` out of one of the files that the error lists.",
        f"extends: {EXAMPLE}\n",
    ),
    "CK105": Code(
        "a version of the format that this calmkit does not read",
        "Write `calmkit: 1` (in a study `calmkit_study: 1`), or install the calmkit that the file was made "
        "for.",
        "calmkit: 2\n" + tiny(""),
    ),
    "CK110": Code(
        "an override that is not of the form key=value",
        "Write a dotted key, =, and a value, such as head.num_draws=4; without spaces, or in quotes.",
        tiny(""),
        ("show", EXAMPLE, "head"),
    ),
    "CK120": Code(
        "no part of that name",
        "The error lists those there are, and every plugin that was left out, with the reason. A part "
        "that a plugin "
        "brings is there once the plugin is installed.",
        tiny("head: enrgy"),
    ),
    "CK130": Code(
        "a key that nobody takes",
        "The error lists the keys there are; `calmkit show heads/energy` says what each setting of a "
        "part means.",
        tiny("head: {num_drawz: 4}"),
    ),
    "CK131": Code(
        "a key that is missing",
        "State it, or begin with `extends: tiny/energy`, which states them all.",
        "calmkit: 1\n" + tiny("data: {name: text, valid: my.txt}"),
    ),
    "CK132": Code(
        "a value of another type",
        "The error says what is wanted. Quotes make a text of anything; true and false are the only "
        "truth values.",
        tiny("stages: {lm: {max_steps: many}}"),
    ),
    "CK133": Code(
        "a value outside its range, or where it has no meaning",
        "The error names the range, or what would do.",
        tiny("stages: {lm: {max_steps: 0}}"),
    ),
    "CK140": Code(
        "a sequence length that the chunk size does not divide",
        "Take a multiple of autoencoder.chunk_size for data.sequence_length.",
        tiny("data: {sequence_length: 30}"),
    ),
    "CK141": Code(
        "parts that do not fit: head and event, order and backbone, part and data",
        "The error lists the parts that would; change one of the two.",
        tiny("head: local_ar"),
    ),
    "CK142": Code(
        "an embedder that reads latents where there are none",
        "embedder=tokens reads the ids; or take an autoencoder that has latents.",
        tiny("embedder: latents", "softmax"),
    ),
    "CK143": Code(
        "a sampler that asks for what head, rows, order or condition do not give",
        "The error names what is asked and who does not give it; null asks for nothing.",
        tiny("sampler: {name: direct, num_steps: 8}"),
    ),
    "CK144": Code(
        "a stage 1 for an autoencoder without parameters, or none for one with them",
        "stages.autoencoder=null for the first; for the second state stages.autoencoder.max_steps.",
        tiny("stages: {autoencoder: null}"),
    ),
    "CK145": Code(
        "a part refuses its settings",
        "The part says why, and what it takes.",
        tiny("head: {exponent: 3}"),
    ),
    "CK146": Code(
        "a corpus, a tokenizer or an `init_from` that cannot be read",
        "Correct the path. Paths are looked up from the current folder.",
        tiny("data: {name: text, train: nowhere.txt, valid: nowhere.txt}"),
    ),
    "CK147": Code(
        "a cell of a study whose cost can't be made equal to the others'",
        "Raise the budget (match.value), match by something else (match.by), or exclude the cell.",
        "calmkit_study: 1\nname: example\nbase: tiny/energy\nmatch: {by: train_flops, value: 1}\n"
        "grid: {head: [energy, flow]}\n",
        ("study", "plan", EXAMPLE),
    ),
    "CK148": Code(
        "a head that asks to be called as a run can't: with a memory, or in float32",
        "trainer.precision=bf16-mixed keeps weights in float32; for a head that reads the whole past "
        "take another.",
        tiny("head: laplace\ntrainer: {precision: bf16-true}"),
        note="laplace is a guest, the head of docs/extending/head.md; it is not held to half precision.",
    ),
    "CK149": Code(
        "a row of a single unit, with nothing to predict it from",
        "Make units smaller, by the autoencoder or the transform that the error names, or rows longer.",
        tiny("transforms: [normalise, {name: patchify, patch: 4}]", "givt_causal"),
    ),
    "CK150": Code(
        "a library, a device or an account that this machine lacks",
        "Install it, or ask for what there is; `calmkit validate --elsewhere` checks a recipe for "
        "another machine.",
        tiny("trainer: {devices: 99999}"),
    ),
}
