"""From a run to a bundle of its own: checked against torch, in the requested precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from obelisk.embedding import MANIFEST_FILE, Bundle, Precision, read_layer, write_bundle
from obelisk.embedding.activation_ranges import RANGES, Ranges, pack_ranges
from obelisk.errors import DataError, ModelError, PhotoError
from obelisk.evaluation.run_reader import Run
from obelisk.files import is_occupied
from obelisk.photos import map_in_order, prepare, read_photo
from obelisk.training.export.int8 import choose_ranges, round_activations
from obelisk.training.export.onnx import check_export
from obelisk.training.export.precision import ComparedPhotos, PrecisionCheck, compare_precisions, convert_precision
from obelisk.training.export.restore import load_layer, load_module, load_tuned
from obelisk.training.export.write_bundle import add_layer, join_network, pack_classifier

CHECKED_PHOTOS = 200
COMPARED_PHOTOS = 2000
CALIBRATION_PHOTOS = 64


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A bundle written from a run, and what its checks found.

    ``cosine`` is the smallest to torch over ``photos`` photos; ``precision`` compares the smaller network with the
    original, None at full precision; ``in_int8`` does so where it computes in int8, None where it must not;
    ``skipped`` are photos that could not be read.
    """

    bundle: Bundle
    photos: int
    cosine: float
    precision: PrecisionCheck | None
    in_int8: PrecisionCheck | None
    skipped: Sequence[PhotoError]


def export_run(
    run: Run,
    out: Path,
    *,
    photos: Sequence[Path],
    landmarks: Sequence[int] | None = None,
    precision: Precision = "fp32",
    size: int | None = None,
) -> Exported:
    """Write a run's bundle to ``out``, unless it differs from what was trained.

    With ``size``, it takes photos of that side in pixels instead of those that the run was trained on: networks often
    recognize more in photos somewhat larger than their training photos (Touvron, Vedaldi, Douze, Jégou, *Fixing the
    train-test resolution discrepancy*, NeurIPS 2019).

    The network is compared with torch on 200 of the photos (all, where they are fewer), in batches of 1, 2 and 5. A
    smaller ``precision`` is compared with the original on 2,000; where ``landmarks`` are given, one per photo, also by
    what the nearest photos and the softmax layer name. With int8 the bundle also says which activations may be rounded
    to bytes, if that passes the same comparison. Raises ModelError for a network that differs too much, DataError when
    no photo can be read; nothing is written then. A bundle that is already in ``out`` is replaced, anything else
    refused.
    """
    refuse_taken(out)
    module, layer, bundle = load_module(run), load_layer(run), run.bundle
    (member,) = bundle.members
    original = bundle.read_network(member)
    if size not in (None, member.size):
        member = member.model_copy(update={"size": size})
        original = join_network(load_tuned(run, size), module.necks, layer)
    elif layer and read_layer(bundle) is None:  # as runs of earlier versions were exported
        original = join_network(load_tuned(run), module.necks, layer)
    chosen = spread_evenly(np.arange(len(photos)), CHECKED_PHOTOS if precision == "fp32" else COMPARED_PHOTOS)
    readable, skipped = find_readable(photos, chosen, member.size)
    few = spread_evenly(readable, CHECKED_PHOTOS)
    inputs = [prepare(read_photo(photos[index], min_side=member.size), member.input) for index in few]
    cosine = check_export(original, add_layer(module, layer), inputs)
    compared = ComparedPhotos(
        paths=[photos[index] for index in readable],
        landmarks=None if landmarks is None else np.asarray(landmarks, np.int64)[readable],
        rule=member.input,
        layer=layer.landmarks.ids if layer else None,
    )
    network, check = convert_checked(original, precision, compared)
    in_int8 = allow_int8(original, inputs[:CALIBRATION_PHOTOS], compared) if precision == "int8" else None
    attachments = pack_classifier(run.recipe.classifier, layer)
    if in_int8:
        attachments[RANGES] = pack_ranges({member.file: in_int8.ranges})
    return Exported(
        bundle=copy_bundle(bundle, out, network, precision, member.size, attachments),
        photos=len(few),
        cosine=cosine,
        precision=check,
        in_int8=in_int8.check if in_int8 else None,
        skipped=skipped,
    )


def convert_checked(
    original: bytes, precision: Precision, photos: ComparedPhotos
) -> tuple[bytes, PrecisionCheck | None]:
    """Convert a network to a precision and compare it with the original; refuse one that differs too much."""
    if precision == "fp32":
        return original, None
    network = convert_precision(original, precision)
    check = compare_precisions(original, network, photos)
    check.refuse_worse(precision)
    return network, check


@dataclass(frozen=True, kw_only=True)
class Int8Computing:
    """Which activations of a network may be rounded to bytes, and what that changes."""

    ranges: Ranges
    check: PrecisionCheck


def allow_int8(
    network: bytes, calibration: Sequence[NDArray[np.float32]], photos: ComparedPhotos
) -> Int8Computing | None:
    """Find the ranges of activations on prepared photos, and compare what they make of others; None if too bad."""
    ranges = choose_ranges(network, calibration)
    if not ranges:
        return None
    check = compare_precisions(network, round_activations(network, ranges), photos)
    try:
        check.refuse_worse("int8")
    except ModelError:
        return None
    return Int8Computing(ranges=ranges, check=check)


def refuse_taken(out: Path) -> None:
    """Refuse a folder that holds anything but a bundle."""
    if not (out / MANIFEST_FILE).is_file() and is_occupied(out):
        raise ModelError("the folder holds something other than a bundle", where=out, fix="choose a new --out")


def find_readable(
    photos: Sequence[Path], indices: NDArray[np.int64], size: int
) -> tuple[NDArray[np.int64], list[PhotoError]]:
    """Return the indices of photos that can be read, and the errors of the others."""

    def attempt(index: int) -> PhotoError | None:
        try:
            read_photo(photos[index], min_side=size)
        except PhotoError as error:
            return error
        return None

    errors = list(map_in_order(attempt, indices))
    readable = indices[[error is None for error in errors]]
    if not len(readable):
        raise DataError(f"none of {len(indices)} photos could be read", fix="give photos: --data DIR or --photos DIR")
    return readable, [error for error in errors if error is not None]


def spread_evenly(indices: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return at most ``most`` of the indices, evenly spread."""
    return indices[np.linspace(0, max(0, len(indices) - 1), min(most, len(indices))).astype(np.int64)]


def copy_bundle(
    bundle: Bundle, out: Path, network: bytes, precision: Precision, size: int, attachments: Mapping[str, bytes]
) -> Bundle:
    """Rewrite a bundle with another form of its network, and more attachments: the rest of manifest and card stays."""
    manifest = bundle.manifest.model_dump(exclude={"format", "files", "fingerprint", "precision", "size", "members"})
    attached = {name: bundle.read_attachment(name) for name in bundle.manifest.files}
    return write_bundle(
        out,
        network=network,
        card=bundle.read_card(),
        attachments={**{name: content for name, content in attached.items() if content is not None}, **attachments},
        precision=precision,
        size=size,
        **manifest,
    )
