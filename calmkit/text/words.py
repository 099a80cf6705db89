"""The words of text: how what models of text are trained for, score and cost is called in tables and reports.

Source of what was published about BrierLM against cross-entropy, and of the samplers' axes: Shao et al.,
Continuous Autoregressive Language Models, 2025, sections 4.2 and 7.5. https://arxiv.org/abs/2510.27688
"""

from __future__ import annotations

from calmkit.interfaces import ColumnWords, KindWords, RelateWords, RivalWords

EXACT, BOUND, EITHER = "nll_per_token", "nll_bound_per_token", "nats_per_token"
COUNTING = ("unigram", "bigram", "trigram")
SCORES = (
    *(ColumnWords(f"brier_{n}", f"Brier-{n}", 2, 100.0) for n in (1, 2, 3, 4)),
    ColumnWords(EXACT, "nats/token", 3, bound=BOUND, called="nats"),
)
OVER = (
    ColumnWords("block_tokens", "block"),
    ColumnWords("context_tokens", "context"),
    ColumnWords("units", "units"),
    ColumnWords("documents", "documents"),
)
COSTS = (
    ColumnWords("plain_tokens_per_second", "tokens/s"),
    ColumnWords("tokens_per_second", "tokens/s sampled"),
    ColumnWords("draws_per_unit", "draws/unit", 1),
    ColumnWords("network_calls_per_unit", "calls/unit", 1, missing="adaptive"),
)
ROWS = (
    "rows of {block_tokens} tokens, {context_tokens} tokens of context on average, {units} units evaluated "
    "in "
)
RELATE = RelateWords(
    names={
        "brier_lm": "BrierLM",
        EXACT: "nats per token (exact)",
        BOUND: "nats per token (upper bound)",
        EITHER: "nats per token (exact, or an upper bound where hollow)",
    },
    either=EITHER,
    exact=EXACT,
    bound=BOUND,
    clamped=("brier_lm",),
    published=((EXACT, "brier_lm", -0.966, -0.991),),  # over checkpoints of three softmax models
)

WORDS = KindWords(
    element="token",
    primary="brier_lm",
    shown=("loss", "token_accuracy", "brier_lm"),
    curve=("brier_lm", EXACT, BOUND),
    untrained=("brier_lm", "nll_"),
    lineage=("chunk_size", "event", "tokenizer"),
    row="row of text",
    data="text",
    group="document",
    unit="chunk",
    reads=("tokenizer",),
    size=ColumnWords("chunk_size", "K"),
    size_told="Models of different K are scored where their own chunks begin.",
    scale=ROWS + "{documents} documents",
    scale_ungrouped=ROWS + "{rows} rows of unknown documents",
    scores=SCORES,
    over=OVER,
    scores_note="Brier-n in percent. Nats per token: exact, or an upper bound behind <=, or - without a "
    "density.",
    costs=COSTS,
    costs_note="FLOPs/token, tokens/s: one text, one plain draw per unit. Tokens/s sampled, draws and "
    "head calls: with the recipe's sampler.",
    flops_told="FLOPs per token, one plain draw per unit",
    speed="plain_tokens_per_second",
    speed_told="tokens per second, one text, one plain draw per unit",
    averaged=("brier_lm", EXACT, BOUND, "tokens_per_second", "plain_tokens_per_second"),
    csv=(
        "brier_lm", *(f"brier_{n}" for n in (1, 2, 3, 4)), EXACT, BOUND, "reconstruction_token_accuracy",
        "tokens_per_second", "plain_tokens_per_second", "draws_per_unit", "network_calls_per_unit",
    ),
    facts=("lm_train_tokens",),
    rivals=(
        RivalWords("untrained", "untrained_brier_lm"),
        *(RivalWords(name, f"{name}_brier_lm", ":") for name in COUNTING),
        RivalWords("ceiling", "ceiling_brier_lm", "--"),
    ),
    rivals_told="BrierLM against simple models",
    rivals_note="Unigram to trigram only count the same training text; their BrierLM is that at the "
    "model's own positions.",
    lines_told="models that only count",
    ceiling="The ceiling, what the true source scores on average: BrierLM {brier_lm} (Brier-1 {brier_1}, "
    "Brier-2 {brier_2}, Brier-3 {brier_3}, Brier-4 {brier_4}), {nll_per_token} nats/token.",
    leaked="leaked_documents",
    coding=ColumnWords(
        "reconstruction_token_accuracy", "Held-out tokens that the autoencoder gives back, in percent",
        2, 100.0,
    ),
    relate=RELATE,
    kept="tokenizer",
    length="tokens",
    evaluation=("draws", "sample_prompt", "sample_tokens"),
    first="the first 1 to 4 tokens",
    samples_told="What each model wrote, sampled as its recipe says; nothing was picked.",
)  # fmt: skip
