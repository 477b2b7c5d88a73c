"""The sections of a recipe: every key with its values, default and reason."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from obelisk.defaults import VOTE, K

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Range = Annotated[float, Field(ge=0.0, le=1.0)]
Numbers = tuple[Annotated[float, Field(gt=0.0)], ...]
Names = Annotated[tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)]

PAIR_LOSSES = ("triplet", "multi_similarity")
MARGIN_SOFTMAX = ("arcface", "cosface", "curricularface", "subcenter_arcface")


class Section(BaseModel):
    """A part of a recipe: frozen, and strict about its keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class DataSection(Section):
    """What is trained on, and what the early stop looks at."""

    validation_share: float = Field(0.2, ge=0.0, lt=1.0)
    """share of each landmark's reference photos carved out for validation; queries are never looked at"""
    refit: bool = True
    """after the early stop, train once more on all reference photos for as many epochs: a landmark of three
    photos cannot spare one"""


class PhotosSection(Section):
    """How a photo becomes the network's input."""

    size: int = Field(224, ge=32, le=1024)
    """side of the square input, pixels; 224 is the size of the reference comparison"""
    resize: Literal["squash", "crop"] = "squash"
    """squash: both sides to `size`, the aspect is lost, nothing is cut; crop: the shorter side to `size`,
    then the centre"""


class BackboneSection(Section):
    """The frozen networks whose pooled feature maps are the descriptor."""

    names: Names = Field(("tf_efficientnet_lite0",), min_length=1, strict=False)
    """timm names; the descriptors of several are concatenated"""
    weights: str = "auto"
    """auto: a package where one carries them, else the hub; or `package`, `hub`, `random`, or a .safetensors or
    .pth file"""
    pooling: Literal["avg", "gem"] = "avg"
    """global average pooling, or the generalised mean with `gem_exponent`"""
    gem_exponent: float = Field(3.0, ge=1.0, le=20.0)
    """p of GeM: 1 is the average, large p approaches the maximum"""
    stages: int = Field(1, ge=1, le=4)
    """how many levels are pooled: 1 is the last feature map alone, each further one adds the stage before it
    (finer patterns, which tell instances of one kind apart)"""


class ViewsSection(Section):
    """Augmented views whose descriptors are cached beside the plain one; all ranges are symmetric."""

    count: int = Field(0, ge=0, le=64)
    """augmented views a reference photo, besides the plain one"""
    height_shift: Range = 0.1
    """largest vertical shift, share of the height"""
    width_shift: Range = 0.1
    """largest horizontal shift, share of the width"""
    zoom: Range = 0.3
    """largest zoom in, as share of the side cut away; zooming out goes a quarter as far"""
    brightness: Range = 0.25
    """largest change of brightness, share"""
    contrast: Range = 0.25
    """largest change of contrast, share"""
    saturation: Range = 0.4
    """largest change of saturation, share"""
    rotation: float = Field(8.0, ge=0.0, le=180.0)
    """largest rotation, degrees"""
    shear: float = Field(5.0, ge=0.0, le=45.0)
    """largest horizontal shear, degrees"""
    aspect: Range = 0.25
    """largest change of the natural logarithm of the aspect ratio"""
    crop: float = Field(1.0, gt=0.0, le=1.0)
    """smallest share of the photo's area that a view shows. Below 1, area and place of the view are drawn as Inception
    does, in place of `zoom` and shifts; `aspect` = 0.288 is its range of 3/4 to 4/3, its area begins at 0.08"""
    blur: float = Field(0.0, ge=0.0, le=0.1)
    """largest standard deviation of a Gaussian blur, share of the shorter side; 0.01 are 2 pixels of 224"""
    erasing: Share = 0.0
    """how often a rectangle of a view, 2 to 40 % of its area, is replaced by noise, so that no single part of a
    landmark is relied upon"""
    flip: Share = 0.5
    """how often a view is mirrored left to right"""


class NeckSection(Section):
    """What turns the descriptor into the embedding."""

    kind: Literal["identity", "whitening", "linear", "dense"] = "linear"
    """identity: the descriptor itself; whitening: PCA whitening, nothing trained; linear: one trained layer;
    dense: BN, Dense 1024, Dropout, BN, Dense 512, BN of the reference comparison's baseline"""
    dimensions: int = Field(512, ge=2, le=8192)
    """D, the length of the embedding (whitening and linear; dense is always 512)"""
    start: Literal["random", "whitening"] = "random"
    """where the linear layer starts: random weights, or the PCA whitening of the reference descriptors"""
    normalize_parts: bool = True
    """L2-normalize each pooled part of the descriptor first, so that no backbone or stage drowns another"""
    dropout: Share = 0.2
    """share of inputs silenced while training (dense: between its layers)"""
    per_backbone: bool = False
    """train one neck a backbone and concatenate their embeddings, instead of one neck on all descriptors"""


class LossSection(Section):
    """What training minimises."""

    kind: Literal[
        "none", "softmax", "triplet", "multi_similarity", "arcface", "cosface", "curricularface", "subcenter_arcface"
    ] = "arcface"
    """none: nothing is trained (identity and whitening necks)"""
    margin: float = Field(0.3, ge=0.0, le=2.0)
    """arcface, curricularface: additive angle, radians; cosface: taken off the cosine; triplet: m of
    max(0, m + d(a,p) - d(a,n)), L2 distance of unit rows; subcenter_arcface: the angle of the most photographed
    landmark"""
    margin_range: float = Field(0.0, ge=0.0, le=2.0)
    """subcenter_arcface: radians added for the least photographed landmark (dynamic margins)"""
    scale: float = Field(30.0, gt=0.0, le=200.0)
    """s, the inverse temperature of the margin softmax"""
    subcenters: int = Field(3, ge=1, le=16)
    """subcenter_arcface: centres a landmark"""
    sampled_share: float = Field(1.0, gt=0.0, le=1.0)
    """share of the landmarks that a step of a margin softmax compares with: those of its batch and random others
    (Partial FC); 1 is all. Worth it from hundreds of thousands of landmarks on"""
    mining: Literal["all", "semihard", "batch_hard", "multi_similarity"] = "batch_hard"
    """triplet: which triplets of a batch count; multi_similarity: which pairs, multi_similarity or all"""
    positive_scale: float = Field(2.0, gt=0.0, le=200.0)
    """multi_similarity: α, how much the least similar positives weigh"""
    negative_scale: float = Field(50.0, gt=0.0, le=200.0)
    """multi_similarity: β, how much the most similar negatives weigh"""
    threshold: float = Field(0.5, ge=-1.0, le=1.0)
    """multi_similarity: λ, the cosine that positives should exceed and negatives stay below"""
    memory: int = Field(0, ge=0)
    """triplet, multi_similarity: embeddings of earlier steps that a batch is compared with, too (cross-batch memory);
    0 compares inside the batch"""
    label_smoothing: float = Field(0.0, ge=0.0, lt=1.0)
    """softmax: probability mass spread over the other landmarks"""


class TrainingSection(Section):
    """How the loss is minimised: AdamW, short warm-up, cosine decay."""

    epochs: int = Field(30, ge=0, le=1000)
    """passes over the reference photos, at most"""
    patience: int = Field(8, ge=1)
    """epochs without a better validation top-1 after which training stops"""
    batch_size: int = Field(256, ge=2)
    """photos a step"""
    sampling: Literal["auto", "natural", "m_per_class", "class_balanced"] = "auto"
    """natural: every photo once an epoch; m_per_class: `photos_per_landmark` photos of each landmark in a batch;
    class_balanced: every landmark equally often, whatever its number of photos; auto: m_per_class where
    `photos_per_landmark` is set, else natural"""
    photos_per_landmark: int = Field(0, ge=0)
    """M of m_per_class batches, 0 for the other samplings. Pair losses without a memory need at least 2"""
    learning_rate: float = Field(1e-3, gt=0.0)
    """peak learning rate of the neck"""
    classifier_learning_rate: float = Field(1e-2, gt=0.0)
    """peak learning rate of the landmark weights of softmax and margin losses"""
    weight_decay: float = Field(1e-4, ge=0.0)
    """decoupled weight decay"""
    warm_up: Share = 0.05
    """share of the steps in which the learning rate rises"""


class FinetuningSection(Section):
    """How the backbone itself is trained, once the neck is: on photos, augmented on the fly as `views` says."""

    epochs: int = Field(0, ge=0, le=1000)
    """passes over the reference photos; 0 leaves the backbone frozen"""
    frozen_groups: int = Field(0, ge=0)
    """layer groups that stay as they are, from the stem on: 0 trains the whole network; an EfficientNet has 8 groups
    (stem, seven stages), a ResNet 5 (stem, four stages)"""
    batch_size: int = Field(64, ge=2)
    """photos a step"""
    start_size: int = Field(0, ge=0, le=1024)
    """side of the photos in the first epoch, pixels, which grows to `photos.size` in the last one: early epochs cost
    less, and small photos are the milder lesson; 0 takes `photos.size` throughout"""
    learning_rate: float = Field(1e-4, gt=0.0)
    """peak learning rate of the last layer group"""
    head_lr_scale: float = Field(1.0, gt=0.0, le=10.0)
    """peak learning rates of neck and landmark weights, as share of those of `training`"""
    layer_decay: float = Field(0.7, gt=0.0, le=1.0)
    """the learning rate of a layer group, as share of the next one's: early layers know what photos share"""
    weight_decay: float = Field(1e-2, ge=0.0)
    """decoupled weight decay of the backbone"""
    learned_exponent: bool = False
    """learn p of GeM, one a stage, from `backbone.gem_exponent` on"""
    mixup: float = Field(0.0, ge=0.0, le=10.0)
    """α of mixup: each photo is laid over another of its batch, with the weight λ ~ Beta(α, α), and counts for the
    landmarks of both; 0 mixes nothing, 0.2 is usual"""
    cutmix: float = Field(0.0, ge=0.0, le=10.0)
    """α of CutMix: the share 1 − λ of a photo is cut out and filled from another one; 0 cuts nothing, 1 is usual.
    With `mixup` set, too, each step is of one of them"""
    clip_grad_norm: float = Field(5.0, gt=0.0)
    """length to which longer gradients of the backbone are cut"""
    distillation: float = Field(0.0, ge=0.0)
    """weight of a second loss, 1 − cosine between the descriptor's parts and those of the frozen backbone: keeps the
    eye for places that are not among the reference photos"""
    frozen_share: Share = 0.0
    """share of the frozen weights in the final ones: 0 takes the trained ones, between 0 and 1 interpolates"""
    ema_decay: float = Field(0.0, ge=0.0, lt=1.0)
    """e of the mean of the weights that follows them, `θ̄ ← e · θ̄ + (1 − e) · θ` after every step, and is kept in
    their place; 0 keeps the last weights themselves"""
    keep: Literal["last", "best"] = "last"
    """last: the weights after the last epoch; best: those after the epoch with the best validation top-1 (the least
    validation loss, where the loss names no landmark), which needs `data.refit = false`"""
    micro_batches: int = Field(1, ge=1)
    """parts that a batch is computed in, one after the other, with their gradients accumulated before the step: for
    networks and batches that don't fit in memory. `batch_size` stays the size of the whole batch"""
    quarantine: Share = 0.01
    """share of the photos that may become unreadable while training goes on without them"""
    compile: bool = False
    """compile the backbone with torch.compile, which needs a C++ compiler, and minutes at the start; what steps gain
    depends on network and machine"""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """bfloat16 is several times as fast where the processor computes in it, and many times as slow where not; float16,
    with scaled gradients, is for CUDA GPUs without bfloat16"""


class EnsembleSection(Section):
    """Several finished runs as one: their embeddings side by side, instead of a training."""

    runs: Names = Field((), strict=False)
    """folders of finished runs, two or more; none: the recipe trains a model of its own"""
    weights: Numbers = Field((), strict=False)
    """what each run's cosine weighs, one number a run; left empty, chosen by the top-1 of the validation photos, which
    no run may have been refitted on (`data.refit = false`)"""
    whiten: bool = False
    """whiten each embedding over the reference photos first, for runs whose neck is not trained"""


class ClassifierSection(Section):
    """How a query's embedding becomes ranked landmarks."""

    kind: Literal["knn", "softmax"] = "knn"
    """knn: nearest reference photos vote; softmax: the probabilities of the softmax layer that loss.kind = "softmax"
    trains; for another loss, of one that is trained on the finished embedding (a linear probe)"""
    k: int = Field(K, ge=1)
    """neighbours that vote"""
    vote: Literal["weighted", "blended", "majority", "prototype"] = VOTE
    """how they vote"""
