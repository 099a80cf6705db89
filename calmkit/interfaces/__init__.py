"""The promises: abstract classes and the small values that pass between them. torch only."""

from calmkit.interfaces.autoencoder import (
    Autoencoder,
    ImageAutoencoder,
    LossOutput,
    NotTrainable,
    PastReadingAutoencoder,
    TokenAutoencoder,
    UnitwiseAutoencoder,
)
from calmkit.interfaces.backbone import AnyOrderBackbone, Backbone, Context, State
from calmkit.interfaces.batch import Batch
from calmkit.interfaces.conditioner import Conditioner
from calmkit.interfaces.corpus import Corpus, DataError, KnownSource, Split, TextCorpus
from calmkit.interfaces.data_kind import DataKind, Front, Prepared, Scores
from calmkit.interfaces.embedder import Embedder
from calmkit.interfaces.ending import Ending, NeverEnds
from calmkit.interfaces.flops import (
    PASSES,
    StatesCodingFlops,
    StatesDensityFlops,
    StatesDrawFlops,
    StatesDraws,
    StatesFlops,
    StatesStepFlops,
    StatesTrainingFlops,
    StatesWeightedFlops,
)
from calmkit.interfaces.generation_asked import GenerationAsked
from calmkit.interfaces.head import (
    DensityHead,
    GenerativeHead,
    Guided,
    GuidedHead,
    HeadInfo,
    IterativeHead,
    PlacewiseHead,
    SampleOptions,
    ScheduledHead,
    StartsFromData,
    TakesDraws,
    WeightedHead,
)
from calmkit.interfaces.kind_words import (
    EVALUATION_OF_A_KIND,
    GROUP_BEFORE,
    ColumnWords,
    KindWords,
    RelateWords,
    RivalWords,
    words_from,
)
from calmkit.interfaces.launcher import Ended, Job, LastingLauncher, Launcher, StatesRoom
from calmkit.interfaces.libraries import NeedsLibraries
from calmkit.interfaces.measure import HeldOut, HeldOutMeasure, Measure, MeasureInfo, Number, stored_name
from calmkit.interfaces.objective import Objective, Reward, UnitLoss
from calmkit.interfaces.order import Order, OrderState, OrderStep, Plan
from calmkit.interfaces.past import Past
from calmkit.interfaces.posterior import EventSpec, Posterior
from calmkit.interfaces.sampler import (
    Choice,
    Draw,
    Guidance,
    RowSampler,
    Sampler,
    WeighingSampler,
    WeightedSource,
)
from calmkit.interfaces.tokenizer import Tokenizer
from calmkit.interfaces.transform import LatentTransform

__all__ = [
    "EVALUATION_OF_A_KIND",
    "GROUP_BEFORE",
    "PASSES",
    "AnyOrderBackbone",
    "Autoencoder",
    "Backbone",
    "Batch",
    "Choice",
    "ColumnWords",
    "Conditioner",
    "Context",
    "Corpus",
    "DataError",
    "DataKind",
    "DensityHead",
    "Draw",
    "Embedder",
    "Ended",
    "Ending",
    "EventSpec",
    "Front",
    "GenerationAsked",
    "GenerativeHead",
    "Guidance",
    "Guided",
    "GuidedHead",
    "HeadInfo",
    "HeldOut",
    "HeldOutMeasure",
    "ImageAutoencoder",
    "IterativeHead",
    "Job",
    "KindWords",
    "KnownSource",
    "LastingLauncher",
    "LatentTransform",
    "Launcher",
    "LossOutput",
    "Measure",
    "MeasureInfo",
    "NeedsLibraries",
    "NeverEnds",
    "NotTrainable",
    "Number",
    "Objective",
    "Order",
    "OrderState",
    "OrderStep",
    "Past",
    "PastReadingAutoencoder",
    "PlacewiseHead",
    "Plan",
    "Posterior",
    "Prepared",
    "RelateWords",
    "Reward",
    "RivalWords",
    "RowSampler",
    "SampleOptions",
    "Sampler",
    "ScheduledHead",
    "Scores",
    "Split",
    "StartsFromData",
    "State",
    "StatesCodingFlops",
    "StatesDensityFlops",
    "StatesDrawFlops",
    "StatesDraws",
    "StatesFlops",
    "StatesRoom",
    "StatesStepFlops",
    "StatesTrainingFlops",
    "StatesWeightedFlops",
    "TakesDraws",
    "TextCorpus",
    "TokenAutoencoder",
    "Tokenizer",
    "UnitLoss",
    "UnitwiseAutoencoder",
    "WeighingSampler",
    "WeightedHead",
    "WeightedSource",
    "stored_name",
    "words_from",
]
