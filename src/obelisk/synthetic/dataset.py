"""A whole dataset of made-up landmarks, in the layout of Google Landmarks v2."""

from __future__ import annotations

import csv
import hashlib
import json
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from obelisk.errors import DataError
from obelisk.synthetic.distractors import render_distractor
from obelisk.synthetic.invented import invent_name, invent_place
from obelisk.synthetic.landmark import KINDS, kind_name
from obelisk.synthetic.rendering import render_photo

Progress = Callable[[int, int], None]

RECORD_FILE = "generated.json"
CATEGORY_ADDRESS = "http://commons.wikimedia.org/wiki/Category:"
FORMAT = 1
JPEG_QUALITY = 88
SEEDS_APART = 1_000_003
FEWEST = 3
# Zipf's law with Mandelbrot's shift: 600 references over 40 landmarks then run from 5 to about 65 each.
TAIL, SHIFT = 1.8, 0.15


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a generated dataset is made from; two equal plans give the same files."""

    landmarks: int
    references: int
    queries: int
    distractors: int
    size: int
    seed: int
    format: int = FORMAT


@dataclass(frozen=True, kw_only=True)
class PlannedPhoto:
    """One photo to render: of a landmark (its number), or of none, for training or as a query."""

    id: str
    landmark: int | None
    index: int
    query: bool

    @property
    def path(self) -> str:
        """Where the photo lies in the dataset."""
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
    progress: Progress | None = None,
) -> Path:
    """Write a dataset of made-up landmarks to a folder and return it.

    ``references`` (default: 15 a landmark) are spread over the landmarks with a long tail, from 3 to 60 and more
    each; ``queries`` (default: 4 a landmark) show one of them, ``distractors`` (default: 2 a landmark) none.
    ``size`` is the side of the photos in pixels. ``progress`` is told how many photos are done, and of how many.

    The folder appears whole or not at all. One that already holds the same dataset is returned as it is.
    Raises DataError for numbers that make no dataset, and for a folder that holds anything else.
    """
    plan = Plan(
        landmarks=landmarks,
        references=landmarks * 15 if references is None else references,
        queries=landmarks * 4 if queries is None else queries,
        distractors=landmarks * 2 if distractors is None else distractors,
        size=size,
        seed=seed,
    )
    refuse_unusable(plan)
    if is_complete(out, plan):
        return out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError("the folder holds something else", where=out, fix="name a new folder, or remove this one")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as made:
        whole = Path(made) / out.name
        write_photos(whole, plan, progress)
        write_tables(whole / "metadata", plan)
        (whole / RECORD_FILE).write_text(json.dumps(asdict(plan), indent=2) + "\n")
        if out.exists():
            out.rmdir()
        whole.rename(out)
    return out


def refuse_unusable(plan: Plan) -> None:
    """Raise DataError for numbers that make no dataset."""
    if plan.landmarks < 1:
        raise DataError(f"a dataset of {plan.landmarks} landmarks", where="landmarks", fix="ask for 1 or more")
    if plan.references < FEWEST * plan.landmarks:
        raise DataError(
            f"{plan.references} reference photos for {plan.landmarks} landmarks",
            where="references",
            fix=f"ask for {FEWEST} a landmark or more: {FEWEST * plan.landmarks}",
        )
    if min(plan.queries, plan.distractors) < 0 or plan.size < 16:
        raise DataError(
            f"{plan.queries} queries, {plan.distractors} distractors, {plan.size} pixels",
            where="queries, distractors, size",
            fix="ask for 0 or more photos of 16 pixels or more",
        )


def is_complete(folder: Path, plan: Plan) -> bool:
    """Say whether a folder holds the dataset of a plan; its record came last, so a folder that has one is whole."""
    try:
        return bool(json.loads((folder / RECORD_FILE).read_text()) == asdict(plan))
    except (OSError, ValueError):
        return False


def landmark_seed(plan: Plan, number: int) -> int:
    """Return the seed of a plan's landmark."""
    return plan.seed * SEEDS_APART + number


def count_references(plan: Plan) -> list[int]:
    """Return how many reference photos each landmark has: 3 at least, and a long tail over them.

    The rest is shared out by weights that fall as a power of the rank, in an order drawn by the seed.
    """
    ranks = list(range(1, plan.landmarks + 1))
    random.Random(f"ranks {plan.seed}").shuffle(ranks)
    weights = [(rank + SHIFT * plan.landmarks) ** -TAIL for rank in ranks]
    spare = plan.references - FEWEST * plan.landmarks
    counts = [FEWEST + int(spare * weight / sum(weights)) for weight in weights]
    for place in sorted(range(plan.landmarks), key=lambda i: (-(spare * weights[i] / sum(weights) % 1), i)):
        if sum(counts) == plan.references:
            break
        counts[place] += 1
    return counts


def list_photos(plan: Plan) -> Iterator[PlannedPhoto]:
    """Yield the photos of a plan, landmark by landmark.

    Queries fall on landmarks at random, the frequent ones not preferred; index numbers never repeat, so that no
    query is also a reference.
    """
    counts = count_references(plan)
    chance = random.Random(f"queries {plan.seed}")
    asked = [0] * plan.landmarks
    for place in range(plan.queries):
        asked[place if place < plan.landmarks else chance.randrange(plan.landmarks)] += 1
    for number, (references, queries) in enumerate(zip(counts, asked, strict=True)):
        for index in range(references + queries):
            yield PlannedPhoto(
                id=photo_id(plan, number, index), landmark=number, index=index, query=index >= references
            )
    for index in range(plan.distractors):
        yield PlannedPhoto(id=photo_id(plan, None, index), landmark=None, index=index, query=True)


def photo_id(plan: Plan, landmark: int | None, index: int) -> str:
    """Return the 16 hex digits of a photo, as GLDv2 names its own."""
    return hashlib.blake2b(f"{plan.seed} {landmark} {index}".encode(), digest_size=8).hexdigest()


def write_photos(folder: Path, plan: Plan, progress: Progress | None) -> None:
    """Render and write all photos of a plan."""
    total = plan.references + plan.queries + plan.distractors
    for done, photo in enumerate(list_photos(plan), start=1):
        if photo.landmark is None:
            image = render_distractor(plan.seed, photo.index, plan.size)
        else:
            image = render_photo(landmark_seed(plan, photo.landmark), photo.index, plan.size)
        path = folder / photo.path
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, format="JPEG", quality=JPEG_QUALITY)
        if progress is not None:
            progress(done, total)


def write_tables(folder: Path, plan: Plan) -> None:
    """Write GLDv2's CSVs, and the names and places of the landmarks."""
    photos = sorted(list_photos(plan), key=lambda photo: photo.id)
    references = [photo for photo in photos if not photo.query]
    folder.mkdir(parents=True)
    write_csv(
        folder / "train.csv", ("id", "url", "landmark_id"), [(p.id, f"generated:{p.id}", number(p)) for p in references]
    )
    clean: dict[int, list[str]] = {}
    for photo in references:
        clean.setdefault(number(photo), []).append(photo.id)
    write_csv(
        folder / "train_clean.csv",
        ("landmark_id", "images"),
        [(key, " ".join(ids)) for key, ids in sorted(clean.items())],
    )
    write_csv(
        folder / "recognition_solution_v2.1.csv",
        ("id", "landmarks", "Usage"),
        [(p.id, "" if p.landmark is None else number(p), "Public") for p in photos if p.query],
    )
    write_landmarks(folder, plan)


def write_landmarks(folder: Path, plan: Plan) -> None:
    """Write the tables that describe landmarks: GLDv2's Commons categories, and names, kinds and places."""
    seeds = [landmark_seed(plan, landmark) for landmark in range(plan.landmarks)]
    names = name_landmarks(plan)
    write_csv(
        folder / "train_label_to_category.csv",
        ("landmark_id", "category"),
        [(key, f"{CATEGORY_ADDRESS}{name.replace(' ', '_')}") for key, name in enumerate(names, start=1)],
    )
    write_csv(
        folder / "landmarks.csv",
        ("landmark_id", "name", "supercategory", "area_level", "latitude", "longitude"),
        [
            (key, name, KINDS[kind_name(seed)].category, 0, *invent_place(seed))
            for key, (name, seed) in enumerate(zip(names, seeds, strict=True), start=1)
        ],
    )


def number(photo: PlannedPhoto) -> int:
    """Return the landmark id that the CSVs give a photo's landmark; they count from 1."""
    return -1 if photo.landmark is None else photo.landmark + 1


def name_landmarks(plan: Plan) -> list[str]:
    """Return the names of all landmarks; a name that comes up again gets a numeral."""
    seen: dict[str, int] = {}
    names = []
    for landmark in range(plan.landmarks):
        seed = landmark_seed(plan, landmark)
        name = invent_name(seed, kind_name(seed))
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name} {seen[name]}")
    return names


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a table as GLDv2 writes its own."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
