"""Photos in, embeddings out: in order, on all cores, without torch.

One photo is one task: a worker thread reads it, prepares it and runs the network on it alone. So reading and computing
overlap, and an embedding never depends on the other photos or on the number of cores. This costs nothing: on 2 cores
(2026-11-24, EfficientNet-Lite0 at 224 px), one photo at a time is as fast as batches of 8 or 32 (170, 174 and 161
photos/s). A single photo would leave the other cores idle, so there all cores share its network, which gives the same
embedding sooner (9 ms instead of 15 on 2 cores, EfficientNet-Lite1; for many photos it would be a twentieth slower).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from obelisk.embedding.activation_ranges import RANGES, read_ranges
from obelisk.embedding.bundle import LARGEST_JSON, Bundle
from obelisk.embedding.bundle_classifier import read_layer
from obelisk.embedding.bundle_manifest import Member
from obelisk.embedding.network_trial import try_first
from obelisk.embedding.onnx_model import FEATURES, LOGITS, NetworkModel, check_input
from obelisk.embedding.runtime_choice import Runtime, open_network, read_runtime
from obelisk.errors import ModelError, PhotoError
from obelisk.photos import (
    GivenPhoto,
    PhotoLike,
    PhotosLike,
    StatedPosition,
    UntilError,
    content_hash,
    detach_error,
    map_in_order,
    prepare,
    read_photo,
    read_query,
    take_photo,
    take_photos,
    usable_cores,
    weigh_photo,
)


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """The outcome for one photo: its embedding (D,), or the error that explains why there is none.

    ``path`` is that of the photo, or its name if it was given as something else. ``content_hash`` is empty if the photo
    could not be read, was given as pixels, or if no hash was asked for. ``logits`` (C,) are those of
    the bundle's softmax layer, if they were asked for. ``warning`` says what is missing of a photo that was cut off.
    ``stated`` is what the photo says of where it was taken, if that was asked for.
    """

    path: Path
    content_hash: str
    embedding: NDArray[np.float32] | None
    error: PhotoError | None = None
    logits: NDArray[np.float32] | None = None
    warning: str | None = None
    stated: StatedPosition | None = None


OnDecoded = Callable[[Path, bytes, Image], None]
"""Called with the path, the bytes and the upright pixels of each photo, by the thread that embeds it.

A photo that was given as pixels has no bytes.
"""

OnFeatures = Callable[[Path, str, bytes, Image, NDArray[np.float32] | None], None]
"""Called with a photo's path, content hash, bytes, pixels and feature map (C, H, W), by the thread that embeds it.

The hash is empty if none was asked for. The map is that of :meth:`Embedder.features`, from the same run as the
embedding.
"""


class Embedder:
    """Computes the embeddings of photos with one bundle.

    ``runtime`` computes them; the default is that of ``OBELISK_RUNTIME``, else the faster one. An embedding never
    depends on the other photos or on the number of cores, and is the same each time. Those of two runtimes differ by
    rounding: cosine 0.999999 in float32, at least 0.999 in bfloat16, about 0.997 in int8, which some bundles allow.
    ``threads`` is the number of cores that share the network of one photo. With ``logits``, photos also get the logits
    of the bundle's softmax layer. If ``on_decoded`` is set, it sees every photo once its pixels are there;
    ``on_features`` sees every photo once it is embedded.

    Raises ModelError for a network that cannot be run, that takes too much time or memory the first time it is used on
    this machine, or whose input is not what the manifest says.

    >>> from PIL import Image
    >>> from obelisk.bundled import bundled_gallery
    >>> embedder = Embedder(Bundle.load(bundled_gallery() / "model"))
    >>> embedder.embed_image(Image.new("RGB", (640, 480))).shape
    (704,)
    """

    def __init__(
        self, bundle: Bundle, *, runtime: Runtime | None = None, threads: int = 1, logits: bool = False
    ) -> None:
        self.bundle = bundle
        self.gives_logits = logits
        layer = read_layer(bundle) if logits else None
        self._logits_shape = (1, len(layer.landmarks)) if layer else None
        self._members = bundle.members
        try_first(bundle)
        self._runtime = runtime or read_runtime()
        self._models = [open_member(bundle, member, self._runtime, threads) for member in self._members]
        weights = np.asarray([member.weight for member in self._members], np.float64)
        self._scales = np.sqrt(weights / weights.sum()).astype(np.float32)
        self._decoded_side = max(member.size for member in self._members)
        self._single_photos = 0
        self.on_decoded: OnDecoded | None = None
        self.on_features: OnFeatures | None = None

    def __repr__(self) -> str:
        return f"Embedder({self.bundle.name!r}, {self.bundle.dimensions} dimensions, {self.engine})"

    @property
    def engine(self) -> str:
        """The runtime in use: onnxruntime, openvino-bf16, openvino-i8 or openvino-f32."""
        return self._models[0].engine

    @property
    def gives_features(self) -> bool:
        """Whether the first network has a feature map as an output."""
        return self._models[0].has_features

    @property
    def computes_with(self) -> str:
        """The engine of each network with its version: embedders of one bundle that agree in it agree to the bit."""
        engines = dict.fromkeys(model.engine for model in self._models)
        return "-".join(f"{engine}-{version(engine.split('-')[0])}" for engine in engines)

    def embed(
        self, sources: PhotosLike, *, hashed: bool = True, cut_off: bool = False, located: bool = False
    ) -> Iterator[Embedded]:
        """Yield one :class:`Embedded` per photo, in input order; a bad photo never stops the others.

        Photos are paths, bytes, binary files, Pillow images or arrays (H, W, 3), as
        :meth:`~obelisk.recognition.Recognizer.recognize` takes them. Without ``hashed``, the photos' content is not
        hashed, which saves a little time. With ``cut_off``, a JPEG of which the end is missing is embedded, too, with a
        warning. With ``located``, what the photos' Exif says of where they were taken is read, too.

        Raises UsageError for what is no photo: an item of an iterable once those before it are embedded.
        """
        embed_one = partial(Embedder.embed_one, hashed=hashed, cut_off=cut_off, located=located)
        return self._embed_stream(UntilError(take_photos(sources)), embed_one)

    def _embed_stream(
        self, stream: UntilError[GivenPhoto], embed_one: Callable[[Embedder, GivenPhoto], Embedded]
    ) -> Iterator[Embedded]:
        first = list(islice(stream, 2))
        if len(first) == 1:
            # From the second single photo on it is worth loading the networks that use all cores.
            self._single_photos += 1
            all_cores = self._single_photos > 1 and not (self.on_decoded or self.on_features)
            yield embed_one(self._on_all_cores if all_cores else self, first[0])
        else:
            yield from map_in_order(partial(embed_one, self), chain(first, stream), weigh_photo)
        if stream.error:
            raise stream.error

    @cached_property
    def _on_all_cores(self) -> Embedder:
        cores = usable_cores()
        if cores == 1 or self.engine != "onnxruntime":
            return self
        return Embedder(self.bundle, runtime=self._runtime, threads=cores, logits=self.gives_logits)

    def embed_one(
        self, photo: PhotoLike | GivenPhoto, *, hashed: bool = True, cut_off: bool = False, located: bool = False
    ) -> Embedded:
        """Embed one photo in the calling thread; errors are returned, not raised."""
        photo = take_photo(photo)
        digest, warning, stated = "", None, None
        try:
            with photo.opened() as found:
                digest = content_hash(found) if hashed and isinstance(found, bytes) else ""
                opened = replace(photo, source=found)
                stated = opened.state_position() if located else None
                if cut_off:
                    image, warning = read_query(opened, min_side=self._decoded_side)
                else:
                    image = read_photo(opened, min_side=self._decoded_side)
                data = found if isinstance(found, bytes) else b""
                if self.on_decoded:
                    self.on_decoded(photo.path, data, image)
        except PhotoError as error:
            error = detach_error(error, where=photo.where)
            return Embedded(path=photo.path, content_hash=digest, embedding=None, error=error)
        row, logits = self._show(photo.path, digest, data, image) if self.on_features else self._describe(image)
        return Embedded(
            path=photo.path, content_hash=digest, embedding=row, logits=logits, warning=warning, stated=stated
        )

    def _describe(self, image: Image) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        return self.classify_image(image) if self.gives_logits else (self.embed_image(image), None)

    def _show(
        self, path: Path, digest: str, data: bytes, image: Image
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Describe a photo, and let ``on_features`` see it with the feature map of the same run."""
        first, *others = (prepare(image, member.input)[np.newaxis] for member in self._members)
        model = self._models[0]
        names = [LOGITS] * self.gives_logits + [FEATURES] * self.gives_features
        found = dict(zip(["", *names], model.run_with(first, *names), strict=True))
        rows = [self._check(found[""], 0)[0], *(self._run(n, one) for n, one in enumerate(others, start=1))]
        logits = self._check_logits(found[LOGITS])[0] if self.gives_logits else None
        if self.on_features:
            self.on_features(path, digest, data, image, found[FEATURES][0] if self.gives_features else None)
        return self._join(rows), logits

    def embed_bytes(self, data: bytes) -> NDArray[np.float32]:
        """Return the embedding (D,) of an encoded photo; raises PhotoError."""
        return self.embed_image(read_photo(data, min_side=self._decoded_side))

    def embed_image(self, image: Image) -> NDArray[np.float32]:
        """Return the embedding (D,) of an upright RGB photo."""
        return self.embed_pixels(*(prepare(image, member.input) for member in self._members))

    def classify_image(self, image: Image) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the embedding (D,) of an upright RGB photo and the logits (C,) of the softmax layer.

        Raises ModelError for a bundle without a layer, and for logits of another shape than the layer's.
        """
        (member,) = self._members
        return self.classify_pixels(prepare(image, member.input))

    def classify_pixels(self, pixels: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the embedding (D,) and the logits (C,) of a photo that :func:`prepare` made ready: (3, H, W)."""
        rows, logits = self._models[0].classify(pixels[np.newaxis])
        return self._check(rows, 0)[0], self._check_logits(logits)[0]

    def _check_logits(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what a network gives as the logits of a photo; raise ModelError unless they have their shape."""
        if self._logits_shape and logits.shape != self._logits_shape:
            raise ModelError(
                f"the network gives logits of shape {logits.shape}, not {self._logits_shape} as its softmax layer says",
                where=self.bundle.folder / self._members[0].file,
                fix="export the bundle again",
            )
        return logits

    def embed_pixels(self, *pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the embedding (D,) of a photo that :func:`prepare` made ready for each network: arrays (3, H, W)."""
        rows = [self._run(n, one[np.newaxis]) for n, one in zip(range(len(self._members)), pixels, strict=True)]
        return self._join(rows)

    def _join(self, rows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return the embedding that the rows of all networks make."""
        if len(rows) == 1:
            return rows[0]
        return np.concatenate([scale * row for scale, row in zip(self._scales, rows, strict=True)])

    def _run(self, number: int, photo: NDArray[np.float32]) -> NDArray[np.float32]:
        row: NDArray[np.float32] = self._check(self._models[number].run(photo), number)[0]
        return row

    def _check(self, found: NDArray[np.float32], number: int) -> NDArray[np.float32]:
        """Return what a network gives for a photo; raise ModelError unless it is one embedding."""
        member = self._members[number]
        if found.shape != (1, member.dimensions):
            raise ModelError(
                f"the network gives {found.shape}, not an embedding of {member.dimensions} dimensions",
                where=self.bundle.folder / member.file,
                fix="export the bundle again",
            )
        return found

    def features(self, source: PhotoLike | GivenPhoto) -> NDArray[np.float32] | None:
        """Return the first network's last feature map, (C, H, W), of a photo; None if it has no such output.

        Raises PhotoError.
        """
        image, _ = read_query(source, min_side=self._decoded_side)
        maps = self._models[0].features(prepare(image, self.bundle.input)[np.newaxis])
        return None if maps is None else maps[0]


def open_member(bundle: Bundle, member: Member, runtime: Runtime, threads: int) -> NetworkModel:
    """Load one of a bundle's networks, and check that its input is what the manifest says."""
    where = bundle.folder / member.file
    attached = bundle.read_attachment(RANGES, LARGEST_JSON)
    ranges = read_ranges(attached, bundle.folder).get(member.file) if attached else None
    model = open_network(where, member.size, runtime, threads, ranges)
    check_input(model, member.size, where=where)
    return model
