"""The words of series: how what models of series are trained for, score and cost is called.

Source: Gneiting and Raftery, Strictly Proper Scoring Rules, Prediction, and Estimation, 2007.
https://doi.org/10.1198/016214506000001437
"""

from __future__ import annotations

from calmkit.interfaces import ColumnWords, KindWords, RelateWords, RivalWords

WORDS = KindWords(
    element="value",
    primary="crps",
    shown=("loss", "crps"),
    curve=("crps", "nats_per_value"),
    untrained=("crps", "nats_per_value"),
    lineage=("event",),
    row="row of a series",
    data="series",
    group="recording",
    unit="unit",
    reads=("series_length",),
    scale="{units} units of held-out series",
    explained=True,
    scores=(ColumnWords("nats_per_value", "nats/value", 3, called="nats"),),
    over=(ColumnWords("units", "units"),),
    scores_note="Nats/value: of a unit given those before it, - without a density.",
    flops_told="FLOPs per value",
    averaged=("crps", "nats_per_value"),
    csv=("crps", "nats_per_value", "crps_best", "crps_normal", "crps_walk", "nats_per_value_best"),
    facts=("lm_train_values",),
    rivals=(
        RivalWords("untrained", "untrained_crps"),
        RivalWords("normal law", "crps_normal", ":"),
        RivalWords("random walk", "crps_walk", ":"),
        RivalWords("true law", "crps_best", "--"),
    ),
    rivals_told="CRPS against forecasts that learn next to nothing, and the true law",
    rivals_note="Less is better. Normal law: one for all values. Random walk: around the last value that is "
    "known. True law: what its forecast expects, where the corpus knows it.",
    lines_told="what is simpler than a model",
    relate=RelateWords(names={"crps": "CRPS", "nats_per_value": "nats per value"}),
    kept="series",
    length="values",
    evaluation=("draws", "sample_prompt", "sample_rows"),
    sample="samples.csv",
    sample_media="text/plain",
)
