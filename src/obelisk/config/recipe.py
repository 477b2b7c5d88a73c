"""The recipe: one TOML file per experiment, checked as a whole before anything runs.

A recipe states every choice of a run: data, photos, backbone, views, neck, loss, training, fine-tuning, classifier.
Unknown keys and wrong values are reported together, each with the nearest known name. The resolved recipe is written
beside every output, and its fingerprint keeps the outputs of different recipes apart.
"""

from __future__ import annotations

import hashlib
import json

from pydantic import Field, model_validator
from pydantic_core import to_json

from obelisk.config.renames import to_first_names
from obelisk.config.sections import (
    MARGIN_SOFTMAX,
    PAIR_LOSSES,
    BackboneSection,
    ClassifierSection,
    DataSection,
    EnsembleSection,
    FinetuningSection,
    LossSection,
    NeckSection,
    PhotosSection,
    SecondOrderSection,
    Section,
    TrainingSection,
    ViewsSection,
)

TRAINING_SECTIONS = ("data", "photos", "backbone", "views", "neck", "second_order", "loss", "training", "finetuning")


class Recipe(Section):
    """One experiment."""

    name: str = Field(min_length=1)
    """name of the run in tables and reports"""
    title: str = ""
    """what the run is, in one line"""
    seed: int = Field(0, ge=0)
    """seed of the validation split, the views, the initial weights and the batches"""
    data: DataSection = DataSection()
    photos: PhotosSection = PhotosSection()
    backbone: BackboneSection = BackboneSection()
    views: ViewsSection = ViewsSection()
    neck: NeckSection = NeckSection()
    second_order: SecondOrderSection = SecondOrderSection()
    loss: LossSection = LossSection()
    training: TrainingSection = TrainingSection()
    finetuning: FinetuningSection = FinetuningSection()
    ensemble: EnsembleSection = EnsembleSection()
    classifier: ClassifierSection = ClassifierSection()

    @model_validator(mode="after")
    def parts_fit(self) -> Recipe:
        """Refuse combinations that can't work."""
        trains = self.loss.kind != "none"
        if self.neck.kind in ("linear", "dense") and not trains:
            raise ValueError(f"neck.kind = {self.neck.kind!r} is trained, so loss.kind cannot be 'none'")
        if self.neck.kind == "whitening" and trains:
            raise ValueError("neck.kind = 'whitening' trains nothing: set loss.kind = 'none', or neck.kind = 'linear'")
        if self.neck.kind == "identity" and self.loss.kind not in ("none", "softmax"):
            raise ValueError(f"loss.kind = {self.loss.kind!r} has nothing to train: set neck.kind = 'linear'")
        if self.classifier.kind == "softmax" and self.loss.kind == "softmax" and self.neck.per_backbone:
            raise ValueError("neck.per_backbone = true trains several softmax layers: set classifier.kind = 'knn'")
        if self.compares_within_batch and self.training.photos_per_landmark < 2:
            raise ValueError(
                f"loss.kind = {self.loss.kind!r} needs training.photos_per_landmark of 2 or more, or a loss.memory"
            )
        for name, size in self.batch_sizes().items():
            if self.training.photos_per_landmark > size:
                raise ValueError(f"{name} is smaller than training.photos_per_landmark")
            if 0 < self.loss.memory < 2 * size:
                raise ValueError(f"loss.memory = {self.loss.memory} holds less than two batches of {name} = {size}")
        if self.finetuning.epochs and len(self.backbone.names) > 1:
            raise ValueError(
                "finetuning.epochs trains one backbone, but backbone.names has several: train one run per backbone"
            )
        if self.finetuning.epochs and not trains:
            raise ValueError("finetuning.epochs needs a loss: loss.kind cannot be 'none'")
        if self.finetuning.keep == "best" and self.data.refit:
            raise ValueError("finetuning.keep = 'best' needs photos held out for validation: set data.refit = false")
        if self.finetuning.epochs and self.classifier.kind == "softmax" and self.loss.kind != "softmax":
            raise ValueError(
                f"finetuning.epochs trains no softmax layer with loss.kind = {self.loss.kind!r}: "
                "set classifier.kind = 'knn', or loss.kind = 'softmax'"
            )
        return self

    @model_validator(mode="after")
    def pooling_fits(self) -> Recipe:
        """Refuse several stages for a pooling that reads the last one only."""
        if self.backbone.pooling == "own" and self.backbone.stages > 1:
            raise ValueError("backbone.pooling = 'own' pools the last stage only: set backbone.stages = 1")
        return self

    @model_validator(mode="after")
    def second_order_fits(self) -> Recipe:
        """Refuse an embedding of second order where it has no place."""
        stages = self.second_order.stages
        if stages and len(self.backbone.names) > 1:
            raise ValueError("second_order.stages are those of one backbone, but backbone.names has several")
        if stages and self.classifier.kind == "softmax":
            raise ValueError("second_order adds to embeddings, not to probabilities: set classifier.kind = 'knn'")
        if len(set(stages)) < len(stages):
            raise ValueError("second_order.stages names a stage twice")
        return self

    @model_validator(mode="after")
    def loss_keys_serve(self) -> Recipe:
        """Refuse keys that this kind of loss doesn't use."""
        loss = self.loss
        if loss.sampled_share < 1.0 and loss.kind not in MARGIN_SOFTMAX:
            raise ValueError(f"loss.sampled_share is for margin softmax losses, but loss.kind = {loss.kind!r}")
        if loss.sharded and loss.kind not in MARGIN_SOFTMAX:
            raise ValueError(f"loss.sharded is for margin softmax losses, but loss.kind = {loss.kind!r}")
        if loss.sharded and loss.sampled_share < 1.0:
            raise ValueError("loss.sharded = true compares with all landmarks: set loss.sampled_share = 1.0")
        if loss.memory and loss.kind not in PAIR_LOSSES:
            raise ValueError(f"loss.memory is for pair losses, but loss.kind = {loss.kind!r}")
        if loss.instance and loss.kind not in (*MARGIN_SOFTMAX, *PAIR_LOSSES):
            raise ValueError(f"loss.instance goes beside margin softmax and pair losses, but loss.kind = {loss.kind!r}")
        if loss.instance and not self.views.count:
            raise ValueError("loss.instance compares two views of each photo: set views.count to 1 or more")
        if loss.instance_entropy and not loss.instance:
            raise ValueError("loss.instance_entropy is a part of loss.instance: set that to 1, or this to 0")
        if loss.kind == "multi_similarity" and loss.mining not in ("all", "multi_similarity"):
            raise ValueError(
                f"loss.kind = 'multi_similarity' takes pairs, not {loss.mining} triplets: "
                "set loss.mining = 'multi_similarity' or 'all'"
            )
        return self

    @model_validator(mode="after")
    def ensemble_fits(self) -> Recipe:
        """Refuse an ensemble of one run, with the wrong number of weights, or with keys that only training uses."""
        runs, weights = self.ensemble.runs, self.ensemble.weights
        if not runs:
            if self.ensemble != EnsembleSection():
                raise ValueError("ensemble.weights and ensemble.whiten are for ensembles: set ensemble.runs")
            return self
        if len(set(runs)) < max(2, len(runs)):
            raise ValueError("ensemble.runs needs two different runs or more")
        if weights and len(weights) != len(runs):
            raise ValueError(f"ensemble.weights has {len(weights)} numbers for {len(runs)} runs")
        if self.classifier.kind == "softmax":
            raise ValueError("ensemble.runs gives embeddings, not probabilities: set classifier.kind = 'knn'")
        idle = [name for name in TRAINING_SECTIONS if getattr(self, name) != type(getattr(self, name))()]
        if idle:
            raise ValueError(f"ensemble.runs trains nothing, so the section `{idle[0]}` has no effect: leave it out")
        return self

    @model_validator(mode="after")
    def finetuning_fits(self) -> Recipe:
        """Refuse fine-tuning that doesn't fit the loss, the pooling or the photos."""
        section = self.finetuning
        if not section.epochs:
            return self
        if (section.mixup or section.cutmix) and self.loss.kind in PAIR_LOSSES:
            raise ValueError(
                "finetuning.mixup and finetuning.cutmix give a photo two landmarks, which "
                f"loss.kind = {self.loss.kind!r} cannot take: set both to 0, or loss.kind = 'arcface'"
            )
        if (section.mixup or section.cutmix) and self.loss.instance:
            raise ValueError(
                "finetuning.mixup and finetuning.cutmix join photos that loss.instance must tell apart: "
                "set both to 0, or loss.instance = 0"
            )
        each, parts = self.training.photos_per_landmark, section.micro_batches
        if self.compares_within_batch and parts > 1 and section.batch_size < 2 * parts * each:
            raise ValueError(
                f"finetuning.micro_batches = {parts} leaves loss.kind = {self.loss.kind!r} one landmark per "
                f"micro-batch, so nothing to tell apart: set finetuning.batch_size to {2 * parts * each} or more"
            )
        if section.learned_exponent and "gem" not in self.backbone.pooling:
            raise ValueError("finetuning.learned_exponent = true learns p of GeM: set backbone.pooling = 'gem'")
        if section.start_size and not 32 <= section.start_size <= self.photos.size:
            raise ValueError(
                f"finetuning.start_size = {section.start_size} is not between 32 and photos.size = {self.photos.size}"
            )
        if section.start_size and section.epochs < 2:
            raise ValueError("finetuning.start_size needs epochs to grow in: set finetuning.epochs to 2 or more")
        if section.start_size and section.compile:
            raise ValueError(
                "finetuning.compile = true would compile again for each photo size on the way up from "
                "finetuning.start_size: set only one of them"
            )
        return self

    @model_validator(mode="after")
    def sharding_fits(self) -> Recipe:
        """Refuse fine-tuning in which the processes would not meet at each batch, or one would validate alone."""
        section = self.finetuning
        if not (self.loss.sharded and section.epochs):
            return self
        if section.micro_batches > 1:
            raise ValueError("loss.sharded = true compares whole batches: set finetuning.micro_batches = 1")
        if section.precision == "float16":
            raise ValueError("loss.sharded = true can't scale gradients: set finetuning.precision = 'bfloat16'")
        if not self.data.refit and self.data.validation_share:
            raise ValueError("loss.sharded = true can't validate while it fine-tunes: set data.refit = true")
        return self

    @model_validator(mode="after")
    def sampling_fits(self) -> Recipe:
        """Refuse `photos_per_landmark` with a sampling that doesn't use it, and m_per_class without it."""
        sampling, each = self.training.sampling, self.training.photos_per_landmark
        if sampling == "m_per_class" and not each:
            raise ValueError("training.sampling = 'm_per_class' needs training.photos_per_landmark of 1 or more")
        if sampling in ("natural", "class_balanced") and each:
            raise ValueError(
                f"training.sampling = {sampling!r} does not use training.photos_per_landmark = {each}: "
                "set only one of them"
            )
        return self

    @property
    def compares_within_batch(self) -> bool:
        """Whether the loss compares photos of one batch only."""
        return self.loss.kind in PAIR_LOSSES and not self.loss.memory

    @property
    def views_at_once(self) -> int:
        """How many views of a photo a training step sees."""
        return 2 if self.loss.instance else 1

    def batch_sizes(self) -> dict[str, int]:
        """Return the batch size of each training stage, keyed by recipe key."""
        sizes = {"training.batch_size": self.training.batch_size}
        if self.finetuning.epochs:
            sizes["finetuning.batch_size"] = self.finetuning.batch_size
        return sizes

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits that change with any choice, but not when a key is renamed or added.

        Runs and checkpoints record it. A key that is added must be listed in :data:`obelisk.config.renames.ADDED`.
        """
        return hashlib.blake2b(to_json(to_first_names(self.model_dump())), digest_size=8).hexdigest()

    def to_toml(self) -> str:
        """Return the resolved recipe, every key with its value."""
        top = [f"{key} = {as_toml(value)}" for key, value in self if not isinstance(value, Section)]
        sections = [
            "\n".join([f"\n[{name}]", *(f"{key} = {as_toml(value)}" for key, value in section)])
            for name, section in self
            if isinstance(section, Section)
        ]
        return "\n".join([*top, *sections]) + "\n"

    def summary(self) -> dict[str, str]:
        """Return the values that differ from the defaults, as ``section.key`` → value, for tables."""
        plain = Recipe(name=self.name)
        return {
            f"{name}.{key}": str(value) if isinstance(value, str) else as_toml(value)
            for name, section in self
            if isinstance(section, Section)
            for key, value in section
            if value != getattr(getattr(plain, name), key)
        }


def as_toml(value: object) -> str:
    """Write a string, number, boolean or a list of these as TOML, where it looks as in JSON."""
    # DEL is the only character that JSON allows in a string and TOML does not.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
