"""Sections of a recipe: every key with its values, unit, default and reason."""

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
    """The reference photos that are trained on, and those held out for validation."""

    validation_share: float = Field(0.2, ge=0.0, lt=1.0)
    """share of each landmark's reference photos held out for validation. Queries are never looked at"""
    refit: bool = True
    """after early stopping, train once more on all reference photos for as many epochs: a landmark with three photos
    can't spare one"""


class PhotosSection(Section):
    """How a photo becomes the network's input."""

    size: int = Field(224, ge=32, le=1024)
    """side of the square input, pixels; 224 is the size in the reference comparison. A transformer takes multiples of
    its patch (14 or 16); its position embeddings are resampled to the size"""
    resize: Literal["squash", "crop"] = "squash"
    """squash: scale both sides to `size`, which changes the aspect ratio but cuts nothing; crop: scale the shorter side
    to `size`, then crop the center"""


class BackboneSection(Section):
    """The networks whose pooled feature maps are the descriptor. They stay frozen unless `finetuning` trains them."""

    names: Names = Field(("tf_efficientnet_lite0",), min_length=1, strict=False)
    """timm names; the descriptors of several backbones are concatenated"""
    weights: str = "auto"
    """where the pretrained weights come from. auto: a Python package that carries them, or else the Hugging Face hub;
    `package`, `hub`, `random`, or the path of a .safetensors or .pth file"""
    weights_key: str = ""
    """which network of a weights file that holds several, such as `teacher` or `state_dict_ema`; empty: the only one"""
    pooling: Literal["avg", "gem", "cls", "cls+gem", "own"] = "avg"
    """avg: global average pooling; gem: generalized mean (GeM) with `gem_exponent`; cls: the class token of a
    transformer; cls+gem: both, side by side; own: as the network itself pools, by its class token, its attention
    pooling, its last convolution …"""
    gem_exponent: float = Field(3.0, ge=1.0, le=20.0)
    """p of GeM, (mean of xᵖ)^(1/p): 1 is the average, a large p approaches the maximum"""
    stages: int = Field(1, ge=1, le=4)
    """number of stages that are pooled: 1 is the last feature map alone; each more adds the stage before (in a
    transformer, the block before), whose finer patterns tell instances of one kind apart"""


class ViewsSection(Section):
    """Augmentation: random views of the reference photos; all ranges are symmetric."""

    count: int = Field(0, ge=0, le=64)
    """augmented views per reference photo, in addition to the photo itself"""
    height_shift: Range = 0.1
    """largest vertical shift, share of the height"""
    width_shift: Range = 0.1
    """largest horizontal shift, share of the width"""
    zoom: Range = 0.3
    """largest zoom in, share of the side that is cut away; zooming out goes a quarter as far"""
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
    """smallest share of the photo's area that a view shows (random resized crop, as Inception draws it). Below 1 it
    takes the place of `zoom` and the shifts. Inception's own range is 0.08, with `aspect` = 0.288 for ratios of 3/4 to
    4/3"""
    blur: float = Field(0.0, ge=0.0, le=0.1)
    """largest standard deviation of the Gaussian blur, share of the shorter side; 0.01 is 2 pixels of 224"""
    erasing: Share = 0.0
    """probability of random erasing: noise replaces a rectangle of 2 to 40 % of the view's area, so that the model
    doesn't rely on one part of a landmark"""
    flip: Share = 0.5
    """probability of a horizontal flip"""


class NeckSection(Section):
    """What turns the descriptor into the embedding."""

    kind: Literal["identity", "whitening", "linear", "dense"] = "linear"
    """identity: the descriptor itself; whitening: PCA whitening, nothing is trained; linear: one trained layer; dense:
    the head of the reference comparison's baseline, BN, Dense 1024, Dropout, BN, Dense 512, BN"""
    dimensions: int = Field(512, ge=2, le=8192)
    """D, the length of the embedding (whitening and linear; dense always gives 512)"""
    start: Literal["random", "whitening"] = "random"
    """initial weights of the linear layer: random, or the PCA whitening of the reference descriptors"""
    normalize_parts: bool = True
    """L2-normalize each pooled part of the descriptor first, so that no backbone or stage outweighs another"""
    dropout: Share = 0.2
    """dropout rate of the neck's input while training (dense: between its layers)"""
    per_backbone: bool = False
    """train one neck per backbone and concatenate their embeddings, instead of one neck on all descriptors"""


class SecondOrderSection(Section):
    """A second embedding beside the neck's: the covariance of the channels of early stages, whitened, not trained.

    It holds patterns and materials, which late stages have averaged away. The network computes it on the way.
    """

    stages: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(strict=False)] = ()
    """stages whose covariance is taken, counted from the photo, 1 the first; empty: none. In a transformer, its blocks.
    Stages of D channels give D (D + 1) / 2 numbers, so D may be 256 at most"""
    dimensions: int = Field(192, ge=2, le=8192)
    """length of this embedding; fewer if there are too few photos to whiten so many"""
    weight: float = Field(0.3, gt=0.0, lt=1.0)
    """its share of the cosine of two photos; the rest is the neck's"""


class LossSection(Section):
    """What training minimizes."""

    kind: Literal[
        "none", "softmax", "triplet", "multi_similarity", "arcface", "cosface", "curricularface", "subcenter_arcface"
    ] = "arcface"
    """none: nothing is trained (identity and whitening necks); softmax: cross entropy; triplet and multi_similarity:
    pair losses; arcface, cosface, curricularface and subcenter_arcface: margin softmax"""
    margin: float = Field(0.3, ge=0.0, le=2.0)
    """m. arcface, curricularface: additive angle, radians; cosface: subtracted from the cosine; triplet: max(0, m +
    d(a,p) - d(a,n)) with the L2 distance of unit rows; subcenter_arcface: angle of the landmark with the most photos,
    radians"""
    margin_range: float = Field(0.0, ge=0.0, le=2.0)
    """subcenter_arcface: radians added for the landmark with the fewest photos (dynamic margins)"""
    scale: float = Field(30.0, gt=0.0, le=200.0)
    """s of the margin softmax, its inverse temperature"""
    subcenters: int = Field(3, ge=1, le=16)
    """subcenter_arcface: K, centers per landmark"""
    sampled_share: float = Field(1.0, gt=0.0, le=1.0)
    """margin softmax: share of the landmarks that a step compares with, those of its batch and random others (Partial
    FC r); 1 is all. It pays off from hundreds of thousands of landmarks on"""
    sharded: bool = False
    """margin softmax: each process of a distributed run keeps the weights of its share of the landmarks, with their
    gradients and moments, and the processes exchange embeddings instead of gradients (class-parallel Partial FC)"""
    mining: Literal["all", "semihard", "batch_hard", "multi_similarity"] = "batch_hard"
    """triplet: which triplets of a batch count; multi_similarity: which pairs count, `multi_similarity` or `all`"""
    positive_scale: float = Field(2.0, gt=0.0, le=200.0)
    """multi_similarity: α, how much the least similar positives weigh"""
    negative_scale: float = Field(50.0, gt=0.0, le=200.0)
    """multi_similarity: β, how much the most similar negatives weigh"""
    threshold: float = Field(0.5, ge=-1.0, le=1.0)
    """multi_similarity: λ, the cosine that positives should exceed and negatives should stay below"""
    memory: int = Field(0, ge=0)
    """triplet, multi_similarity: number of embeddings from earlier steps that a batch is compared with as well
    (cross-batch memory, XBM); 0 compares within the batch only"""
    label_smoothing: float = Field(0.0, ge=0.0, lt=1.0)
    """softmax: ε, the probability mass spread over the other landmarks"""
    instance: float = Field(0.0, ge=0.0, le=100.0)
    """weight of instance discrimination beside the loss: each photo comes in two views, which must find each other
    among photos of other landmarks (SSCD). It doubles the time of a step; 0 is off, 1 is common"""
    instance_temperature: float = Field(0.05, gt=0.0, le=1.0)
    """instance: τ of InfoNCE, by which cosines are divided"""
    instance_entropy: float = Field(0.0, ge=0.0, le=100.0)
    """instance: λ, weight of the entropy term, which pushes each photo away from the nearest one of another landmark;
    0 is off, SSCD takes 30"""


class TrainingSection(Section):
    """How the neck is trained on cached descriptors: AdamW, a short warm-up, cosine decay."""

    epochs: int = Field(30, ge=0, le=1000)
    """maximum number of passes over the reference photos; 0 trains nothing"""
    patience: int = Field(8, ge=1)
    """early stopping: epochs without a better validation top-1 before training stops"""
    ema_decay: float = Field(0.0, ge=0.0, lt=1.0)
    """decay e of an exponential moving average (EMA) of the weights, `θ̄ ← e · θ̄ + (1 − e) · θ` after every step; the
    average is what is kept. 0 is off"""
    clip_grad_norm: float = Field(0.0, ge=0.0)
    """longest gradient of the neck, L2 norm; longer ones are scaled down to it. 0 is off"""
    batch_size: int = Field(256, ge=2)
    """photos per step"""
    sampling: Literal["auto", "natural", "m_per_class", "class_balanced"] = "auto"
    """natural: every photo once per epoch; m_per_class: `photos_per_landmark` photos of each landmark in a batch (PK
    sampling); class_balanced: every landmark equally often, whatever its number of photos; auto: m_per_class if
    `photos_per_landmark` is set, natural otherwise"""
    photos_per_landmark: int = Field(0, ge=0)
    """M of m_per_class batches; 0 for the other samplings. Pair losses without a memory need at least 2"""
    learning_rate: float = Field(1e-3, gt=0.0)
    """peak learning rate of the neck"""
    classifier_learning_rate: float = Field(1e-2, gt=0.0)
    """peak learning rate of the landmark weights of softmax and margin losses"""
    weight_decay: float = Field(1e-4, ge=0.0)
    """decoupled weight decay (AdamW)"""
    warm_up: Share = 0.05
    """share of the steps in which the learning rate rises"""


class FinetuningSection(Section):
    """How the backbone is trained after the neck: on photos, augmented on the fly as `views` says."""

    epochs: int = Field(0, ge=0, le=1000)
    """passes over the reference photos; 0 leaves the backbone frozen"""
    frozen_groups: int = Field(0, ge=0)
    """layer groups that stay frozen, counted from the stem: 0 trains the whole network. An EfficientNet has 8 groups
    (stem, seven stages), a ResNet 5 (stem, four stages), a ViT one for its patches and one per block"""
    batch_size: int = Field(64, ge=2)
    """photos per step"""
    start_size: int = Field(0, ge=0, le=1024)
    """side of the photos in the first epoch, pixels; it grows to `photos.size` in the last one (progressive resizing):
    early epochs cost less, and small photos are easier. 0 uses `photos.size` throughout"""
    learning_rate: float = Field(1e-4, gt=0.0)
    """peak learning rate of the last layer group"""
    head_lr_scale: float = Field(1.0, gt=0.0, le=10.0)
    """factor on `training`'s learning rates of neck and landmark weights while the backbone is trained"""
    layer_decay: float = Field(0.7, gt=0.0, le=1.0)
    """learning rate of a layer group relative to the next one's (layer-wise decay): early layers know what all photos
    share"""
    weight_decay: float = Field(1e-2, ge=0.0)
    """decoupled weight decay of the backbone (AdamW)"""
    learned_exponent: bool = False
    """learn p of GeM, one per stage, starting from `backbone.gem_exponent`"""
    mixup: float = Field(0.0, ge=0.0, le=10.0)
    """α of mixup: each photo is blended with another of its batch, with weight λ ~ Beta(α, α), and counts for both
    landmarks; 0 is off, 0.2 is common"""
    cutmix: float = Field(0.0, ge=0.0, le=10.0)
    """α of CutMix: a rectangle with the share 1 − λ of the area is filled from another photo; 0 is off, 1 is common. If
    `mixup` is set as well, each step uses one of the two"""
    clip_grad_norm: float = Field(5.0, gt=0.0)
    """longest gradient of the backbone, L2 norm; longer ones are scaled down to it"""
    distillation: float = Field(0.0, ge=0.0)
    """weight of a second loss, 1 − cosine between the descriptor's parts and those of the frozen backbone: the model
    keeps what it knows about places that are not among the reference photos"""
    frozen_share: Share = 0.0
    """WiSE-FT's 1 − α, the share of the frozen weights in the final ones: 0 keeps the trained weights, a value between
    0 and 1 interpolates"""
    ema_decay: float = Field(0.0, ge=0.0, lt=1.0)
    """decay e of an exponential moving average (EMA) of the weights, `θ̄ ← e · θ̄ + (1 − e) · θ` after every step; the
    average is what is kept. 0 is off"""
    patience: int = Field(0, ge=0)
    """early stopping: epochs without a better validation, as `keep` compares them, before fine-tuning stops; needs
    `data.refit = false`. 0 is off"""
    keep: Literal["last", "best"] = "last"
    """last: keep the weights of the last epoch; best: keep those of the epoch with the best validation top-1 (the
    lowest validation loss if the loss names no landmark), which needs `data.refit = false`"""
    micro_batches: int = Field(1, ge=1)
    """micro-batches that a batch is split into; their gradients are accumulated before the step. For networks and
    batches that don't fit in memory; `batch_size` stays the size of the whole batch"""
    quarantine: Share = 0.01
    """share of the photos that may become unreadable before training stops; up to it, they are left out"""
    compile: bool = False
    """compile the backbone with torch.compile, which needs a C++ compiler and takes minutes at the start; the gain
    depends on network and machine"""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """bfloat16 is several times faster than float32 if the processor computes in it, and many times slower if not;
    float16, with scaled gradients, is for CUDA GPUs without bfloat16"""


class EnsembleSection(Section):
    """Several finished runs joined into one: their embeddings are concatenated, and nothing is trained."""

    runs: Names = Field((), strict=False)
    """folders of two or more finished runs; empty: the recipe trains a model of its own"""
    weights: Numbers = Field((), strict=False)
    """weight of each run's cosine, one number per run. Empty: chosen by top-1 on the validation photos, so no run may
    have been refitted on them (`data.refit = false`)"""
    whiten: bool = False
    """whiten each embedding over the reference photos first, for runs whose neck is not trained"""


class ClassifierSection(Section):
    """How a query's embedding becomes ranked landmarks. The choice travels in the run's bundle."""

    kind: Literal["knn", "softmax"] = "knn"
    """knn: the nearest reference photos vote; softmax: the probabilities of the softmax layer that loss.kind =
    "softmax" trains, or, for another loss, of a layer trained on the finished embedding (linear probe)"""
    k: int = Field(K, ge=1)
    """K, the number of neighbors that vote"""
    vote: Literal["weighted", "blended", "majority", "prototype"] = VOTE
    """how neighbors vote. weighted: by similarity; majority: one vote each; prototype: the nearest mean of a landmark's
    photos; blended: neighbors and prototypes together"""
