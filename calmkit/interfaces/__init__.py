"""The promises: abstract classes and the small values that pass between them. torch only."""

from calmkit.interfaces.autoencoder import Autoencoder, LossOutput, NotTrainable
from calmkit.interfaces.backbone import Backbone, Context, State
from calmkit.interfaces.corpus import Corpus, DataError, KnownSource, Split
from calmkit.interfaces.embedder import Embedder
from calmkit.interfaces.flops import (
    PASSES,
    StatesCodingFlops,
    StatesDrawFlops,
    StatesDraws,
    StatesFlops,
    StatesStepFlops,
    StatesTrainingFlops,
)
from calmkit.interfaces.head import DensityHead, GenerativeHead, HeadInfo, IterativeHead, SampleOptions
from calmkit.interfaces.launcher import Ended, Job, LastingLauncher, Launcher, StatesRoom
from calmkit.interfaces.libraries import NeedsLibraries
from calmkit.interfaces.measure import HeldOut, HeldOutMeasure, Measure, MeasureInfo, Number, stored_name
from calmkit.interfaces.posterior import EventSpec, Posterior
from calmkit.interfaces.sampler import Choice, Draw, Sampler
from calmkit.interfaces.tokenizer import Tokenizer

__all__ = [
    "PASSES",
    "Autoencoder",
    "Backbone",
    "Choice",
    "Context",
    "Corpus",
    "DataError",
    "DensityHead",
    "Draw",
    "Embedder",
    "Ended",
    "EventSpec",
    "GenerativeHead",
    "HeadInfo",
    "HeldOut",
    "HeldOutMeasure",
    "IterativeHead",
    "Job",
    "KnownSource",
    "LastingLauncher",
    "Launcher",
    "LossOutput",
    "Measure",
    "MeasureInfo",
    "NeedsLibraries",
    "NotTrainable",
    "Number",
    "Posterior",
    "SampleOptions",
    "Sampler",
    "Split",
    "State",
    "StatesCodingFlops",
    "StatesDrawFlops",
    "StatesDraws",
    "StatesFlops",
    "StatesRoom",
    "StatesStepFlops",
    "StatesTrainingFlops",
    "Tokenizer",
    "stored_name",
]
