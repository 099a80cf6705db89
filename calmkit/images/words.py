"""The words of images: how what models of images are trained for, score and cost is called in tables and
reports.

Sources: those of the measures, `calmkit.images.measures`. https://arxiv.org/abs/1706.08500
"""

from __future__ import annotations

from calmkit.interfaces import ColumnWords, KindWords, RelateWords, RivalWords

SPEED = "images_per_second"
WORDS = KindWords(
    element="image",
    primary="fd",
    shown=("loss", "psnr", "fd"),
    curve=("fd", "nats_per_dim"),
    untrained=("fd", "nats_per_dim"),
    lineage=("image_shape", "event", "layout"),
    row="image",
    data="images",
    group="image",
    unit="unit",
    reads=("image_shape",),
    scale="{images} drawn images beside all that are held out",
    scale_ungrouped="drawn images beside all that are held out",
    own_interval=True,
    explained=True,
    scores=(
        ColumnWords("kd", "kernel distance", 3),
        ColumnWords("precision", "precision %", 1, 100.0),
        ColumnWords("recall", "recall %", 1, 100.0),
        ColumnWords("class_accuracy", "class accuracy %", 1, 100.0),
        ColumnWords("network_accuracy", "network right %", 1, 100.0),
        ColumnWords("nearest_ratio", "nearest training image", 2),
        ColumnWords("nats_per_dim", "nats/dim", 3, called="nats"),
    ),
    over=(ColumnWords("images", "images drawn"),),
    scores_note="Kernel distance: around 0 for images of one law. Precision: drawn images that lie among "
    "the held-out ones; recall: the other way round. Class accuracy: in the class they were asked of, by the "
    "feature network, which is itself right on as many held-out images as stands behind it. Nearest training "
    "image: 0 for copies, 1 for images as new as held-out ones. Nats/dim: of the "
    "latents as the autoencoder gives them, - without a density.",
    costs=(ColumnWords(SPEED, "images/s", 1),),
    costs_note="FLOPs/image: one draw of each unit that the order asks for at a step, kept or not; what "
    "guidance and beams cost on top is in `calmkit plan` alone. Images/s: with the recipe's sampler.",
    flops_told="FLOPs per image",
    speed=SPEED,
    speed_told="images per second",
    averaged=("fd", "nats_per_dim", SPEED),
    csv=(
        "fd", "kd", "precision", "recall", "class_accuracy", "nearest_ratio", "nats_per_dim",
        "network_accuracy", "fd_floor", "bar_gaussian_fd", "bar_copy_fd", "reconstruction_psnr", SPEED,
    ),
    facts=("lm_train_images",),
    rivals=(
        RivalWords("untrained", "untrained_fd"),
        RivalWords("training images", "bar_copy_fd", ":"),
        RivalWords("Gaussian per class", "bar_gaussian_fd", ":"),
        RivalWords("floor", "fd_floor", "--"),
    ),
    rivals_told="Frechet distance against simple models",
    rivals_note="Less is better. Gaussian per class: drawn from one Gaussian per class in the space of "
    "pixels. "
    "Training images: handed out as if drawn, which the nearest training image shows. Floor: as many "
    "training images against the held-out ones, about what a model as good as the data would reach.",
    lines_told="what is simpler than a model",
    leaked="leaked_images",
    coding=ColumnWords(
        "reconstruction_psnr", "PSNR of held-out images that the autoencoder gives back, in dB", 1
    ),
    relate=RelateWords(names={"fd": "Frechet distance", "nats_per_dim": "nats per dimension of the latents"}),
    kept="images",
    evaluation=("sample_rows",),
    log=True,
    sample="samples.png",
    sample_media="image/png",
    samples_told="What each model drew, sampled as its recipe says, from the same seed; nothing was picked.",
)  # fmt: skip
