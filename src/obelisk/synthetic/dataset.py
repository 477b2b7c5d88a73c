"""A whole dataset of made-up landmarks, in the layout of Google Landmarks v2."""

from __future__ import annotations

import csv
import hashlib
import json
import random
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from obelisk.errors import DataError
from obelisk.files import growing_beside, is_occupied, move_folder, read_limited
from obelisk.records import Progress, no_progress
from obelisk.synthetic.distractors import render_distractor
from obelisk.synthetic.place_names import invent_coordinates, invent_names
from obelisk.synthetic.rendering import render_photo
from obelisk.synthetic.scene import kind_of

RECORD_FILE = "generated.json"
LARGEST_RECORD = 2**20  # bytes
CATEGORY = "Category:"  # not the address of one: no page tells of a landmark that is made up
FORMAT = 8  # to be raised whenever the same numbers give other files
JPEG_QUALITY = 88
SEED_STRIDE = 1_000_003
FEWEST_REFERENCES = 3
# The Zipf–Mandelbrot law: 600 references of 40 landmarks then run from 5 to about 65 each.
EXPONENT, SHIFT = 1.8, 0.15


@dataclass(frozen=True, kw_only=True)
class DatasetPlan:
    """What a dataset is made from; equal plans give the same files."""

    landmarks: int
    references: int
    queries: int
    distractors: int
    size: int
    seed: int
    format: int = FORMAT

    @property
    def seeds(self) -> list[int]:
        """The seeds of the landmarks."""
        return [self.seed * SEED_STRIDE + landmark for landmark in range(self.landmarks)]


@dataclass(frozen=True, kw_only=True)
class PlannedPhoto:
    """One photo to render; ``landmark`` is the landmark's index, None for a distractor."""

    id: str
    landmark: int | None
    index: int
    query: bool

    @property
    def path(self) -> str:
        """The photo's path in the dataset."""
        return "/".join(("test" if self.query else "train", *self.id[:3], f"{self.id}.jpg"))


def generate_dataset(
    out: Path,
    *,
    landmarks: int = 40,
    references: int | None = None,
    queries: int | None = None,
    distractors: int | None = None,
    size: int = 224,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Path:
    """Write a dataset of made-up landmarks to a folder and return the folder.

    ``references`` (default: 15 per landmark) are spread over the landmarks with a long tail, from 3 to 60 and more
    each; each of the ``queries`` (default: 4 per landmark) shows a landmark, the ``distractors`` (default: 2 per
    landmark) show none. ``size`` is the side of the photos in pixels.

    The folder appears whole or not at all. If it already holds the same dataset, nothing is written.
    Raises DataError for impossible numbers, and for a folder that holds anything else.
    """
    plan = DatasetPlan(
        landmarks=landmarks,
        references=landmarks * 15 if references is None else references,
        queries=landmarks * 4 if queries is None else queries,
        distractors=landmarks * 2 if distractors is None else distractors,
        size=size,
        seed=seed,
    )
    refuse_impossible(plan)
    if holds_dataset(out, plan):
        return out
    if is_occupied(out):
        raise DataError("the folder holds something else", where=out, fix="name a new folder, or remove this one")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=growing_beside(out), prefix=f".{out.name}.") as parent:
        partial = Path(parent) / out.name
        write_photos(partial, plan, progress)
        write_tables(partial / "metadata", plan)
        (partial / RECORD_FILE).write_text(json.dumps(asdict(plan), indent=2) + "\n", encoding="utf-8", newline="\n")
        move_folder(partial, out)
    return out


def refuse_impossible(plan: DatasetPlan) -> None:
    """Raise DataError for numbers that make no dataset."""
    fewest = (
        ("landmarks", 1, "landmarks"),
        ("references", FEWEST_REFERENCES * plan.landmarks, f"reference photos for {plan.landmarks} landmarks"),
        ("queries", 0, "queries"),
        ("distractors", 0, "distractors"),
        ("size", 16, "pixels on a side"),
    )
    for name, least, what in fewest:
        if (asked := getattr(plan, name)) < least:
            raise DataError(f"{asked} {what}", where=name, fix=f"ask for {least} or more")


def holds_dataset(folder: Path, plan: DatasetPlan) -> bool:
    """Check whether a folder holds a plan's dataset. Its record is written last, so a folder with one is whole."""
    try:
        return bool(json.loads(read_limited(folder / RECORD_FILE, LARGEST_RECORD)) == asdict(plan))
    except (OSError, ValueError, RecursionError):
        return False


def count_references(plan: DatasetPlan) -> list[int]:
    """Share out the reference photos: at least 3 per landmark, the rest with a long tail.

    The rest goes by weights that fall as a power of the rank; the seed shuffles the ranks.
    """
    ranks = np.random.default_rng(plan.seed).permutation(plan.landmarks) + 1
    weights = (ranks + SHIFT * plan.landmarks) ** -EXPONENT
    shares = (plan.references - FEWEST_REFERENCES * plan.landmarks) * weights / weights.sum()
    counts = FEWEST_REFERENCES + shares.astype(int)
    largest_remainders = np.argsort(-(shares % 1), kind="stable")
    counts[largest_remainders[: plan.references - counts.sum()]] += 1
    return [int(count) for count in counts]


def expand_plan(plan: DatasetPlan) -> Iterator[PlannedPhoto]:
    """Yield the photos of a plan, landmark by landmark, then the distractors.

    Queries fall on all landmarks alike, frequent or not. Indices never repeat, so no query is also a reference.
    """

    def photo(landmark: int | None, index: int, *, query: bool) -> PlannedPhoto:
        # 16 hex digits, as in GLDv2.
        digest = hashlib.blake2b(f"{plan.seed} {landmark} {index}".encode(), digest_size=8).hexdigest()
        return PlannedPhoto(id=digest, landmark=landmark, index=index, query=query)

    rng = random.Random(f"queries {plan.seed}")
    order = rng.sample(range(plan.landmarks), plan.landmarks)
    for landmark, references in enumerate(count_references(plan)):
        queries = len(range(order[landmark], plan.queries, plan.landmarks))
        for index in range(references + queries):
            yield photo(landmark, index, query=index >= references)
    for index in range(plan.distractors):
        yield photo(None, index, query=True)


def write_photos(folder: Path, plan: DatasetPlan, progress: Progress) -> None:
    """Render and write all photos of a plan."""
    total, seeds = plan.references + plan.queries + plan.distractors, plan.seeds
    for done, photo in enumerate(expand_plan(plan), start=1):
        if photo.landmark is None:
            image = render_distractor(plan.seed, photo.index, plan.size)
        else:
            image = render_photo(seeds[photo.landmark], photo.index, plan.size)
        path = folder / photo.path
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, format="JPEG", quality=JPEG_QUALITY)
        progress("rendering photos", done, total)


def write_tables(folder: Path, plan: DatasetPlan) -> None:
    """Write GLDv2's tables, and one of the landmarks' names, kinds and coordinates. Landmarks count from 1."""
    train, train_clean, solution = [], defaultdict(list), []
    for photo in sorted(expand_plan(plan), key=lambda photo: photo.id):
        landmark = None if photo.landmark is None else photo.landmark + 1
        if photo.query:
            solution.append((photo.id, landmark, "Public"))
        else:
            train.append((photo.id, f"generated:{photo.id}", landmark))
            train_clean[landmark].append(photo.id)
    kinds = [kind_of(seed) for seed in plan.seeds]
    names = invent_names(plan.seeds, [kind.words for kind in kinds])
    landmarks = list(zip(range(1, plan.landmarks + 1), names, kinds, map(invent_coordinates, plan.seeds), strict=True))
    tables: dict[str, tuple[str, Sequence[Sequence[object]]]] = {
        "train.csv": ("id,url,landmark_id", train),
        "train_clean.csv": ("landmark_id,images", [(key, " ".join(train_clean[key])) for key, *_ in landmarks]),
        "recognition_solution_v2.1.csv": ("id,landmarks,Usage", solution),
        "train_label_to_category.csv": (
            "landmark_id,category",
            [(key, CATEGORY + name.replace(" ", "_")) for key, name, *_ in landmarks],
        ),
        "landmarks.csv": (
            "landmark_id,name,supercategory,area_level,latitude,longitude",
            [(key, name, kind.category, 0, *at) for key, name, kind, at in landmarks],
        ),
    }
    folder.mkdir(parents=True)
    for file_name, (header, rows) in tables.items():
        with (folder / file_name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows([header.split(","), *rows])
