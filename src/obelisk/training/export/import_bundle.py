"""Import an embedding network that other code exported: an ONNX file in, a checked bundle out."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from obelisk.arrays import Embeddings
from obelisk.embedding import Bundle, OnnxModel, write_bundle
from obelisk.embedding.bundle import LARGEST_NETWORK
from obelisk.errors import DataError, ModelError, PhotoError, UsageError
from obelisk.files import open_limited
from obelisk.photos import ModelInput, content_hash, find_photos, map_in_order, prepare, read_photo
from obelisk.training.export.export_run import refuse_taken, spread_evenly
from obelisk.training.export.foreign_graph import (
    ForeignNetwork,
    Layout,
    TokenPooling,
    adopt,
    append_whitening,
    read_foreign,
)

CONFIG = "preprocessor_config.json"
LARGEST_CONFIG = 2**20
CHECKED_PHOTOS, WHITENED_PHOTOS = 16, 20_000
ALIKE = 0.99999  # cosine of embeddings that a batch may change by rounding
CONSTANT = 0.999999  # cosine of unlike photos from which a network sees nothing in them


@dataclass(frozen=True, kw_only=True)
class PhotoRule:
    """What is known of how photos become a network's input; None where it is not."""

    size: int | None = None
    resize: Literal["squash", "crop"] | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Imported:
    """An imported bundle, and what to say of it.

    ``pooled`` is how its tokens or maps are pooled, "" for an output that was pooled already; ``photos`` counts those
    that it was checked on, ``whitened`` those that its whitening was learned from.
    """

    bundle: Bundle
    pooled: str
    photos: int
    whitened: int
    one_by_one: bool
    config: Path | None
    skipped: Sequence[PhotoError]


def import_network(
    path: Path,
    out: Path,
    *,
    licence: str,
    rule: PhotoRule | None = None,
    output: str | None = None,
    pooling: TokenPooling | None = None,
    layout: Layout | None = None,
    name: str = "",
    photos: Path | None = None,
    whiten: Path | None = None,
) -> Imported:
    """Write a bundle of an ONNX file to ``out``: anybody's embedding network, checked on photos.

    What ``rule`` leaves open is read from a ``preprocessor_config.json`` beside the file. ``output`` chooses among
    several; tokens and maps are pooled as ``pooling`` says. ``whiten`` names a folder of photos from which a PCA
    whitening is learned. Raises ModelError for a network that no bundle can hold, or that fails on the photos;
    UsageError for what is not known; nothing is written then.
    """
    refuse_taken(out)
    network = read_network_file(path)
    foreign = read_foreign(network, output=output, layout=layout, where=path)
    config, read = read_config(path)
    known = complete(rule or PhotoRule(), read, foreign, path)
    images, skipped = load_images(photos or whiten, known.size)
    inputs = [prepare(image, known) for image in images]
    made, pooled, batch = adopt_checked(foreign, known, pooling, inputs, path)
    whitened = 0
    if whiten:
        made, whitened = whiten_network(made, whiten, known)
    rows = check_network_on(made, inputs, path)
    bundle = write_bundle(
        out,
        network=made,
        card=write_import_card(name or path.stem, path, network, foreign, known, pooled, whitened, licence),
        name=name or path.stem,
        size=known.size,
        resize=known.resize,
        mean=known.mean,
        std=known.std,
        dimensions=rows.shape[1],
        whitening=bool(whitened),
        licence=licence,
        data=f"not stated; imported from {path.name}",
    )
    return Imported(
        bundle=bundle,
        pooled=pooled,
        photos=len(images),
        whitened=whitened,
        one_by_one=batch == 1,
        config=config,
        skipped=skipped,
    )


def read_network_file(path: Path) -> bytes:
    """Read an ONNX file whole; raises ModelError if it can't be read."""
    if not path.is_file():
        raise ModelError("no such network", where=path, fix="give a .onnx file")
    try:
        with open_limited(path, LARGEST_NETWORK) as file:
            return file.read(LARGEST_NETWORK)
    except OSError as error:
        raise ModelError(
            f"the network cannot be read: {error.strerror}", where=path, fix="give a .onnx file"
        ) from error


def read_config(path: Path) -> tuple[Path | None, PhotoRule]:
    """Read ``preprocessor_config.json`` beside a network or, as the hub lays its files out, in the folder above."""
    folder = path.absolute().parent
    config = next((each / CONFIG for each in (folder, folder.parent) if (each / CONFIG).is_file()), None)
    if config is None:
        return None, PhotoRule()
    try:
        with open_limited(config, LARGEST_CONFIG) as file:
            fields = json.loads(file.read(LARGEST_CONFIG))
        return config, parse_config(fields)
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        fix = "give --size, --mean, --std and --resize, and move the file away"
        raise ModelError(f"`{CONFIG}` cannot be read: {error}", where=config, fix=fix) from error


def parse_config(fields: dict[str, Any]) -> PhotoRule:
    """Return the photo rule in a configuration of Hugging Face's image processors.

    There x ∈ [0, 255] becomes ``(x · rescale_factor − mean) / std``; here x/255 is taken, so the factor moves into
    mean and std.
    """
    crops = bool(fields.get("do_center_crop", "crop_size" in fields)) and "crop_size" in fields
    size = fields["crop_size"] if crops else fields.get("size")
    sides = list(size.values()) if isinstance(size, dict) else [size]
    shortest = isinstance(size, dict) and set(size) == {"shortest_edge"}
    if len(set(sides)) != 1:
        raise ValueError(f"photos of {size} are not square")
    factor = 255.0 * float(fields.get("rescale_factor", 1 / 255)) if fields.get("do_rescale", True) else 255.0
    normalizes = bool(fields.get("do_normalize", True))
    mean, std = (fields["image_mean"], fields["image_std"]) if normalizes else ((0.0,) * 3, (1.0,) * 3)
    if len(mean) != 3 or len(std) != 3:
        raise ValueError(f"image_mean {mean} and image_std {std} are not of 3 channels")
    return PhotoRule(
        size=None if sides[0] is None else int(sides[0]),
        resize="crop" if crops or shortest else "squash",
        mean=(mean[0] / factor, mean[1] / factor, mean[2] / factor),
        std=(std[0] / factor, std[1] / factor, std[2] / factor),
    )


def complete(asked: PhotoRule, read: PhotoRule, foreign: ForeignNetwork, path: Path) -> ModelInput:
    """Return the whole photo rule: what was asked for, then what the configuration says, then what the graph fixes.

    Raises UsageError for what is not known, and for a size that the graph does not take.
    """
    size = asked.size or foreign.size or read.size
    if asked.size and foreign.size and asked.size != foreign.size:
        what = f"--size {asked.size}, but the network takes photos of {foreign.size} pixels"
        raise UsageError(what, where=path, fix=f"--size {foreign.size}, or leave it out")
    if not size:
        raise UsageError("the network takes photos of any size", where=path, fix="give --size, such as --size 224")
    mean, std = asked.mean or read.mean, asked.std or read.std
    if mean is None or std is None:
        fix = f"give --mean and --std (--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225), or put its {CONFIG} beside it"
        raise UsageError("how the network wants photos normalized is not known", where=path, fix=fix)
    return ModelInput(size=size, resize=asked.resize or read.resize or "squash", mean=mean, std=std)


def load_images(folder: Path | None, size: int) -> tuple[list[Image.Image], list[PhotoError]]:
    """Read some photos of a folder, evenly spread, with the errors of the others; without a folder, make some."""
    if folder is None:
        return make_images(), []
    paths = find_photos(folder)
    chosen = [paths[index] for index in spread_evenly(np.arange(len(paths)), CHECKED_PHOTOS)]
    images, skipped = [], []
    for path in chosen:
        try:
            images.append(read_photo(path, min_side=size))
        except PhotoError as error:
            skipped.append(error)
    if len(images) < 2:
        what = f"{len(images)} of {len(chosen)} photos can be read"
        raise DataError(what, where=folder, fix="give a folder with two photos or more")
    return images, skipped


def make_images() -> list[Image.Image]:
    """Return made-up photos, all unlike: soft patches of color."""
    rng = np.random.default_rng(0)
    patches = [rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8) for cells in range(3, 3 + CHECKED_PHOTOS // 2)]
    return [Image.fromarray(each).resize((320, 240), Image.Resampling.BICUBIC) for each in patches]


def adopt_checked(
    foreign: ForeignNetwork,
    rule: ModelInput,
    pooling: TokenPooling | None,
    inputs: Sequence[NDArray[np.float32]],
    path: Path,
) -> tuple[bytes, str, int]:
    """Return the bundle's network for any number of photos or, where that changes its answers, for one at a time.

    Also return how it is pooled, and the number of photos that it takes: 0 for any.
    """
    single, how = None, ""
    for batch in (1, 0):
        try:
            network, how = adopt(dataclasses.replace(foreign, batch=batch), rule.size, pooling, where=path)
            if batch == 1:
                single = network
            elif single and same_in_batches(network, single, inputs):
                return network, how, batch
        except ModelError:
            if batch == 1:
                if foreign.batch > 1:
                    what = f"the network takes {foreign.batch} photos at a time, and one alone it does not"
                    raise ModelError(what, where=path, fix="export it for one photo, or for any number") from None
                raise
    assert single is not None
    return single, how, 1


def same_in_batches(network: bytes, single: bytes, inputs: Sequence[NDArray[np.float32]]) -> bool:
    """Return whether a network embeds photos in batches of 2 and 5 as it does one by one."""
    model, alone = OnnxModel(network), OnnxModel(single)
    for size in (2, 5):
        batch = np.stack([inputs[index % len(inputs)] for index in range(size)])
        try:
            found = model.run(batch)
        except ModelError:
            return False
        expected = np.concatenate([alone.run(photo[np.newaxis]) for photo in batch])
        if found.shape != expected.shape or not bool(((found * expected).sum(axis=1) > ALIKE).all()):
            return False
    return True


def check_network_on(network: bytes, inputs: Sequence[NDArray[np.float32]], path: Path) -> Embeddings:
    """Embed prepared photos; raises ModelError for a network that is not finite, not repeatable, or blind."""
    model = OnnxModel(network)
    rows = np.concatenate([model.run(photo[np.newaxis]) for photo in inputs])
    again = np.concatenate([model.run(photo[np.newaxis]) for photo in inputs])
    if not np.isfinite(rows).all():
        fix = "check --mean, --std and --size, or export it in float32"
        raise ModelError("the network gives numbers that are not finite", where=path, fix=fix)
    if not np.array_equal(rows, again):
        fix = "export it in evaluation mode, without dropout"
        raise ModelError("the network gives another embedding each time", where=path, fix=fix)
    lengths = np.linalg.norm(rows, axis=1)
    if not lengths.all() or float((rows @ rows.T).min()) > CONSTANT:
        fix = "check --mean and --std, and that its weights were loaded; or choose another --output"
        raise ModelError(f"the network gives the same embedding for {len(rows)} unlike photos", where=path, fix=fix)
    return rows


def whiten_network(network: bytes, folder: Path, rule: ModelInput) -> tuple[bytes, int]:
    """Append the PCA whitening of the embeddings of a folder's photos; return how many there were."""
    import torch

    from obelisk.training.model.whitening import pca_whitening

    model = OnnxModel(network)
    paths = find_photos(folder)
    chosen = [paths[index] for index in spread_evenly(np.arange(len(paths)), WHITENED_PHOTOS)]

    def embed_photo(path: Path) -> NDArray[np.float32] | None:
        try:
            image = read_photo(path, min_side=rule.size)
        except PhotoError:
            return None
        row: NDArray[np.float32] = model.run(prepare(image, rule)[np.newaxis])[0]
        return row

    rows = [row for row in map_in_order(embed_photo, chosen) if row is not None]
    projection, bias = pca_whitening(torch.from_numpy(np.stack(rows)), len(rows[0]))
    return append_whitening(network, projection.numpy(), bias.numpy()), len(rows)


def write_import_card(
    name: str,
    path: Path,
    network: bytes,
    foreign: ForeignNetwork,
    rule: ModelInput,
    pooled: str,
    whitened: int,
    licence: str,
) -> str:
    """Return the model card: where the network comes from, and what was put around it."""
    return (
        f"# {name}\n\n"
        f"Imported from `{path.name}` (BLAKE2b {content_hash(network)}), output `{foreign.output}`"
        + (f", pooled by {pooled}" if pooled else "")
        + (f", with the PCA whitening of {whitened} photos" if whitened else "")
        + ".\n\n"
        f"Licence of the weights, as given at the import: {licence}.\n\n"
        f"Photos: {rule.size} px, {rule.resize}, mean {', '.join(f'{each:.6g}' for each in rule.mean)}, "
        f"std {', '.join(f'{each:.6g}' for each in rule.std)}.\n"
    )
