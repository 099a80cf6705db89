"""Tasks of lm-eval on runs, from files made here: no network, and every number is one that can be redone."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from small_runs import small_run, workshop

from calmkit.cli.main import cli
from calmkit.training.run import Run

WRITE = """\
task: write
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/questions.jsonl}}
output_type: generate_until
test_split: test
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: [" "], max_gen_toks: 12, do_sample: false, top_k: 5}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""
CHOOSE = """\
task: choose
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/questions.jsonl}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{label}}"
target_delimiter: ""
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""
ROLL = """\
task: roll
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/questions.jsonl}}
output_type: loglikelihood_rolling
test_split: test
doc_to_text: ""
doc_to_target: "{{question}}"
metric_list: [{metric: byte_perplexity, aggregation: weighted_perplexity, higher_is_better: false}]
"""
LAST = """\
task: last
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/questions.jsonl}}
output_type: loglikelihood
test_split: test
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
metric_list: [{metric: perplexity, aggregation: perplexity, higher_is_better: false},
              {metric: acc, aggregation: mean, higher_is_better: true}]
"""
QUESTIONS = [
    {"question": "the cat sat on", "answer": " a", "choices": [" the", " a mat", " qqq"], "label": 1},
    {"question": "one red", "answer": " hen", "choices": [" hen", "zz"], "label": 0},
    {"question": "and saw", "answer": " it", "choices": [" it", " to"], "label": 1},
]
DISCRETE = (
    "autoencoder={name: token_chunks, chunk_size: 2}",
    "head={name: local_ar, width: 16, depth: 1, heads: 2}",
    "stages.autoencoder=null",
)
SHORT = ("stages.lm.max_steps=4", "stages.lm.eval_every=4", "evaluation.untrained=false")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    pytest.importorskip("lm_eval", reason="lm-eval is not installed (extra `lm-eval`)")
    with workshop(tmp_path_factory.mktemp("lm_eval")) as folder, pytest.MonkeyPatch.context() as patch:
        for name in ("HF_DATASETS_OFFLINE", "HF_HUB_OFFLINE"):
            patch.setenv(name, "1")
        import datasets

        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "hf")
        patch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
        (folder / "questions.jsonl").write_text("".join(json.dumps(q) + "\n" for q in QUESTIONS))
        (folder / "tasks").mkdir()
        for name, task in (("write", WRITE), ("choose", CHOOSE), ("roll", ROLL), ("last", LAST)):
            (folder / "tasks" / f"{name}.yaml").write_text(task.replace("FOLDER", str(folder)))
        yield folder


@pytest.fixture(scope="module")
def energy(shop: Path) -> Run:
    return small_run(
        shop, "energy", "stages.autoencoder.max_steps=4", "stages.autoencoder.eval_every=4", *SHORT
    )


@pytest.fixture(scope="module")
def discrete(shop: Path) -> Run:
    return small_run(shop, "discrete", *DISCRETE, *SHORT)


def asked(run: Run, tasks: str, *words: str) -> Any:
    """The verb's answer."""
    folder = run.folder.parent
    given = ["lm-eval", str(run.folder), "--tasks", tasks, "--include-path", str(folder / "tasks"), *words]
    return CliRunner().invoke(cli, given, prog_name="calmkit")


@pytest.mark.filterwarnings("ignore")
def test_an_energy_head_writes_and_is_compared(energy: Run) -> None:
    done = asked(energy, "write", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert 0 <= found["results"]["write"]["exact_match,none"] <= 1
    assert found["n-samples"]["write"]["effective"] == 3
    assert found["likelihood"].startswith("none: EnergyHead is known by its draws alone")
    assert "temperature 0 of the task: sampler greedy" in done.stderr
    assert done.stderr.count("generation_kwargs, for no sampler has them: top_k") == 1
    assert json.loads(asked(energy, "write", "--json").stdout)["results"] == found["results"]


@pytest.mark.filterwarnings("ignore")
def test_an_energy_head_has_no_likelihood_and_says_why(energy: Run) -> None:
    done = asked(energy, "choose")
    assert done.exit_code == 2
    assert (
        "a task asks how likely a text is. EnergyHead is known by its draws alone: it has no" in done.stderr
    )


def by_hand(run: Run, before: str, after: str) -> float:
    """log p(after | before) from the logits of each place, chunks of two bytes, end-of-text as fill."""
    model = run.load(device="cpu").model
    front = [256] * (len(before) % 2) + list(before.encode())
    ids = front + list(after.encode()) + [256] * (len(after) % 2)
    chunks = torch.tensor(ids).view(1, -1, 2)
    h = model.context(chunks).h[0]
    law = model.head.logits(h, chunks[0]).log_softmax(-1).flatten(0, 1)  # [tokens, V]
    return sum(float(law[at, ids[at]]) for at in range(len(front), len(front) + len(after)))


@pytest.mark.filterwarnings("ignore")
def test_choices_are_compared_by_log_likelihoods_by_hand(discrete: Run) -> None:
    found = json.loads(asked(discrete, "choose", "--json").stdout)
    right = 0
    for q in QUESTIONS:
        scores = [by_hand(discrete, str(q["question"]), choice) for choice in q["choices"]]
        right += scores.index(max(scores)) == q["label"]
    assert found["results"]["choose"]["acc,none"] == pytest.approx(right / 3)
    assert found["likelihood"] == "exact"


@pytest.mark.filterwarnings("ignore")
def test_the_numbers_that_lm_eval_gets_are_those_of_the_logits(discrete: Run) -> None:
    from lm_eval.api.instance import Instance

    from calmkit.text.interop.lm_eval import CalmLM

    model = CalmLM.of_run(discrete.folder, device="cpu")
    pairs = [("the cat", " sat"), ("one", " red hen"), ("a ", "mat")]
    requests = [Instance("loglikelihood", {}, pair, 0) for pair in pairs]
    for (nats, greedy), (before, after) in zip(model.loglikelihood(requests), pairs, strict=True):
        kept = before.rstrip()  # spaces go to what follows
        assert nats == pytest.approx(by_hand(discrete, kept, before[len(kept) :] + after), abs=1e-4)
        assert greedy is False


@pytest.mark.filterwarnings("ignore")
def test_a_whole_text_and_a_last_word_are_measured_and_shown(discrete: Run) -> None:
    done = asked(discrete, "roll,last", "--limit", "2")
    assert done.exit_code == 0, done.output
    lines = [line.split() for line in done.stdout.splitlines()]
    told = {(line[0], line[1]): line[2] for line in lines if len(line) > 2}
    hand = [by_hand(discrete, str(q["question"]), str(q["answer"])) for q in QUESTIONS[:2]]
    assert float(told["last", "perplexity"]) == pytest.approx(math.exp(-sum(hand) / 2), rel=1e-3)
    assert 100 < float(told["roll", "byte_perplexity"]) < 400  # an untrained guess among 257
    assert ("last", "acc") in told
    assert done.stdout.rstrip().endswith("likelihood: exact")


@pytest.mark.filterwarnings("ignore")
def test_a_bound_is_called_one_and_gives_no_accuracy(shop: Path) -> None:
    head = "head={name: mixture, num_components: 2, depth: 1}"
    run = small_run(
        shop, "mixture", head, "stages.autoencoder.max_steps=4", "stages.autoencoder.eval_every=4", *SHORT
    )
    done = asked(run, "last,choose", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["likelihood"] == "bound"
    assert [name for name in found["results"]["last"] if name.startswith("acc")] == []
    assert found["results"]["last"]["perplexity,none"] > 1
    assert 0 <= found["results"]["choose"]["acc,none"] <= 1
    assert "log likelihoods are lower bounds, estimated from draws (seed 0): MixtureHead has a" in done.stderr
    assert "last: no accuracy, for a bound does not tell" in done.stderr


@pytest.mark.filterwarnings("ignore")
def test_an_unknown_task_is_named(energy: Run) -> None:
    done = asked(energy, "nosuchtask")
    assert done.exit_code == 1
    assert "lm-eval has no task nosuchtask; --include-path names a folder" in done.stderr
