"""A whole dataset of made-up landmarks, in the layout of Google Landmarks v2."""

from __future__ import annotations

import csv
import hashlib
import json
import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from obelisk.errors import DataError
from obelisk.records import Progress, no_progress
from obelisk.synthetic.distractors import render_distractor
from obelisk.synthetic.place_names import invent_coordinates, invent_name
from obelisk.synthetic.rendering import render_photo
from obelisk.synthetic.scene import KINDS, kind_of

RECORD_FILE = "generated.json"
CATEGORY_URL = "http://commons.wikimedia.org/wiki/Category:"
FORMAT = 2  # 1 had thirteen kinds of landmarks
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

    def seed_of(self, landmark: int) -> int:
        """Return the seed of a landmark."""
        return self.seed * SEED_STRIDE + landmark


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

    @property
    def landmark_id(self) -> int | None:
        """The landmark's id in the tables, which count from 1."""
        return None if self.landmark is None else self.landmark + 1


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
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError("the folder holds something else", where=out, fix="name a new folder, or remove this one")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as parent:
        partial = Path(parent) / out.name
        write_photos(partial, plan, progress)
        write_tables(partial / "metadata", plan)
        (partial / RECORD_FILE).write_text(json.dumps(asdict(plan), indent=2) + "\n")
        if out.exists():
            out.rmdir()
        partial.rename(out)
    return out


def refuse_impossible(plan: DatasetPlan) -> None:
    """Raise DataError for numbers that make no dataset."""
    if plan.landmarks < 1:
        raise DataError(f"a dataset of {plan.landmarks} landmarks", where="landmarks", fix="ask for 1 or more")
    fewest = FEWEST_REFERENCES * plan.landmarks
    if plan.references < fewest:
        raise DataError(
            f"{plan.references} reference photos for {plan.landmarks} landmarks",
            where="references",
            fix=f"ask for at least {FEWEST_REFERENCES} per landmark: {fewest}",
        )
    if min(plan.queries, plan.distractors) < 0 or plan.size < 16:
        raise DataError(
            f"{plan.queries} queries, {plan.distractors} distractors, {plan.size} pixels",
            where="queries, distractors, size",
            fix="ask for 0 or more photos of 16 pixels or more",
        )


def holds_dataset(folder: Path, plan: DatasetPlan) -> bool:
    """Check whether a folder holds a plan's dataset. Its record is written last, so a folder with one is whole."""
    try:
        return bool(json.loads((folder / RECORD_FILE).read_text()) == asdict(plan))
    except (OSError, ValueError):
        return False


def count_references(plan: DatasetPlan) -> list[int]:
    """Share out the reference photos: at least 3 per landmark, the rest with a long tail.

    The rest goes by weights that fall as a power of the rank; the seed shuffles the ranks.
    """
    ranks = list(range(1, plan.landmarks + 1))
    random.Random(f"ranks {plan.seed}").shuffle(ranks)
    weights = [(rank + SHIFT * plan.landmarks) ** -EXPONENT for rank in ranks]
    spare = plan.references - FEWEST_REFERENCES * plan.landmarks
    total = sum(weights)
    shares = [spare * weight / total for weight in weights]
    counts = [FEWEST_REFERENCES + int(share) for share in shares]
    largest_remainders = sorted(range(plan.landmarks), key=lambda i: (-(shares[i] % 1), i))
    for i in largest_remainders[: plan.references - sum(counts)]:
        counts[i] += 1
    return counts


def expand_plan(plan: DatasetPlan) -> Iterator[PlannedPhoto]:
    """Yield the photos of a plan, landmark by landmark, then the distractors.

    Queries fall on all landmarks alike, frequent or not. Indices never repeat, so no query is also a reference.
    """
    rng = random.Random(f"queries {plan.seed}")
    asked = [0] * plan.landmarks
    for i in range(plan.queries):
        asked[i if i < plan.landmarks else rng.randrange(plan.landmarks)] += 1

    def photo(landmark: int | None, index: int, *, query: bool) -> PlannedPhoto:
        # 16 hex digits, as in GLDv2.
        digest = hashlib.blake2b(f"{plan.seed} {landmark} {index}".encode(), digest_size=8).hexdigest()
        return PlannedPhoto(id=digest, landmark=landmark, index=index, query=query)

    for landmark, (references, queries) in enumerate(zip(count_references(plan), asked, strict=True)):
        for index in range(references + queries):
            yield photo(landmark, index, query=index >= references)
    for index in range(plan.distractors):
        yield photo(None, index, query=True)


def write_photos(folder: Path, plan: DatasetPlan, progress: Progress) -> None:
    """Render and write all photos of a plan."""
    total = plan.references + plan.queries + plan.distractors
    for done, photo in enumerate(expand_plan(plan), start=1):
        if photo.landmark is None:
            image = render_distractor(plan.seed, photo.index, plan.size)
        else:
            image = render_photo(plan.seed_of(photo.landmark), photo.index, plan.size)
        path = folder / photo.path
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, format="JPEG", quality=JPEG_QUALITY)
        progress("rendering photos", done, total)


def write_tables(folder: Path, plan: DatasetPlan) -> None:
    """Write GLDv2's tables, and one of the landmarks' names, kinds and coordinates."""
    photos = sorted(expand_plan(plan), key=lambda photo: photo.id)
    references = [(photo.id, photo.landmark_id) for photo in photos if not photo.query]
    landmarks = [(i + 1, name, plan.seed_of(i)) for i, name in enumerate(invent_names(plan))]
    clean: dict[int | None, list[str]] = {key: [] for key, *_ in landmarks}
    for photo_id, landmark_id in references:
        clean[landmark_id].append(photo_id)
    tables: dict[str, tuple[str, Sequence[Sequence[object]]]] = {
        "train.csv": ("id,url,landmark_id", [(key, f"generated:{key}", landmark) for key, landmark in references]),
        "train_clean.csv": ("landmark_id,images", [(key, " ".join(ids)) for key, ids in clean.items()]),
        "recognition_solution_v2.1.csv": (
            "id,landmarks,Usage",
            [(photo.id, photo.landmark_id, "Public") for photo in photos if photo.query],
        ),
        "train_label_to_category.csv": (
            "landmark_id,category",
            [(key, CATEGORY_URL + name.replace(" ", "_")) for key, name, _ in landmarks],
        ),
        "landmarks.csv": (
            "landmark_id,name,supercategory,area_level,latitude,longitude",
            [(key, name, KINDS[kind_of(seed)].category, 0, *invent_coordinates(seed)) for key, name, seed in landmarks],
        ),
    }
    folder.mkdir(parents=True)
    for file_name, (header, rows) in tables.items():
        with (folder / file_name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header.split(","))
            writer.writerows(rows)


def invent_names(plan: DatasetPlan) -> list[str]:
    """Invent the names of all landmarks; a name that comes up again gets a numeral."""
    seen: dict[str, int] = {}
    names = []
    for seed in map(plan.seed_of, range(plan.landmarks)):
        name = invent_name(seed, KINDS[kind_of(seed)].words)
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name} {seen[name]}")
    return names
