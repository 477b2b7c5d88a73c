"""What a build has to do: the photos of a dataset beside those that the gallery has.

A photo is known by its bytes. It is where it was if the gallery has the same bytes under its id; it has moved if the
gallery has them under an id that the dataset no longer has. A landmark follows its folder: if all photos of a folder
that is gone moved to one new folder, the folder was renamed.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from obelisk.arrays import Embeddings
from obelisk.gallery.landmarks import Landmark, compared
from obelisk.gallery.schema import ReferencePhoto
from obelisk.photos import photo_exists

NO_LANDMARK = Landmark(id=-1, name="")  # of a photo in a damaged gallery

Origin = tuple[int, str]
"""a landmark of the gallery, and one of its names in the data"""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A reference photo of the dataset: its file, and the record that the gallery shall have of it.

    ``landmark_id`` is the dataset's. ``embedding`` is set if the gallery knows the bytes, ``replaces`` if it has other
    bytes under the same id.
    """

    file: Path
    record: ReferencePhoto
    landmark_id: int
    embedding: Embeddings | None = None
    replaces: bool = False


@dataclass(frozen=True, kw_only=True)
class MovedPhoto:
    """A photo that the dataset has at another place, or under another landmark, than the gallery had it.

    ``before`` and ``after`` are its records, ``landmarks`` the names of what it showed before and shows now;
    ``landmark_id`` is the dataset's.
    """

    row: int
    before: ReferencePhoto
    after: ReferencePhoto
    landmarks: tuple[str, str]
    landmark_id: int


@dataclass(frozen=True, kw_only=True)
class RenamedFolder:
    """A landmark whose folder, or name in the dataset, has become another one.

    ``landmark`` is the gallery's, under its new name unless it had one of its own; ``landmark_id`` is the dataset's.
    """

    landmark: Landmark
    before: str
    after: str
    landmark_id: int
    photos: int


@dataclass(kw_only=True)
class Plan:
    """What a build has to do, by kind.

    ``tasks`` are to be added, ``refiled`` are records of photos of which nothing but the place of the file has changed.
    ``gone`` came from this dataset, which no longer has them; ``elsewhere`` counts those that came from somewhere else.
    ``folder`` is the dataset's, if the gallery is to note anew where it lies.
    """

    tasks: list[Task] = field(default_factory=list)
    moved: list[MovedPhoto] = field(default_factory=list)
    renamed: list[RenamedFolder] = field(default_factory=list)
    refiled: list[ReferencePhoto] = field(default_factory=list)
    gone: list[ReferencePhoto] = field(default_factory=list)
    unchanged: int = 0
    elsewhere: int = 0
    folder: str = ""


class Planner:
    """Compares the photos of a gallery with those of a dataset.

    ``brought`` are the dataset's landmarks, ``known`` the gallery's, both by id; ``kept`` maps an id of the dataset to
    the landmark of the gallery. ``folder`` is the dataset's.
    """

    def __init__(
        self,
        tasks: Iterable[Task],
        *,
        brought: Mapping[int, Landmark],
        kept: Mapping[int, Landmark],
        known: Mapping[int, Landmark],
        folder: str,
    ) -> None:
        self._tasks = {task.record.id: task for task in tasks}
        self._ids = frozenset(self._tasks)
        self._brought, self._kept, self._known, self._folder = brought, kept, known, folder
        self._present = {compared(landmark.name) for landmark in brought.values()}
        self._plan = Plan()
        self._left: dict[int, ReferencePhoto] = {}
        self._seen_folders: set[str] = set()

    def run(self, photos: Iterable[tuple[int, ReferencePhoto]]) -> Plan:
        """Return the plan for the gallery's photos, given with their rows."""
        for row, photo in photos:
            task = self._tasks.get(photo.id)
            if task and task.record.content_hash == photo.content_hash != "":
                self._settle(row, photo, task, task.record)
            else:
                self._left[row] = photo
        self._find_moved()
        taken = {photo.id for photo in self._left.values()}
        absent = [photo for photo in self._left.values() if photo.id not in self._ids]
        self._plan.tasks = [replace(task, replaces=task.record.id in taken) for task in self._tasks.values()]
        self._plan.gone = [photo for photo in absent if self._is_of_dataset(photo)]
        self._plan.elsewhere = len(absent) - len(self._plan.gone)
        self._plan.refiled += [
            self._refile(photo) for photo in self._plan.gone if self._folder_of(photo) != self._folder
        ]
        self._plan.renamed = list(self._find_renamed())
        return self._plan

    def _settle(self, row: int, photo: ReferencePhoto, task: Task, record: ReferencePhoto) -> None:
        """Note that a photo of the gallery is one of the dataset, and shall have this record."""
        del self._tasks[task.record.id]
        if not (record.author or record.licence):  # the dataset may have lost its table of them
            record = replace(record, author=photo.author, licence=photo.licence)
        self._seen_folders.add(self._folder_of(photo))
        kept = self._kept[task.landmark_id]
        if record.id != photo.id or kept.id != photo.landmark_id:
            names = (self._landmark_of(photo).name, kept.name)
            moved = MovedPhoto(row=row, before=photo, after=record, landmarks=names, landmark_id=task.landmark_id)
            self._plan.moved.append(moved)
            return
        self._plan.unchanged += 1
        if describe_file(record) != describe_file(photo):
            self._plan.refiled.append(record)

    def _find_moved(self) -> None:
        """Find the photos of the gallery that the dataset has under another id."""
        by_content: dict[str, list[Task]] = defaultdict(list)
        for task in self._tasks.values():
            by_content[task.record.content_hash].append(task)
        by_content.pop("", None)  # files that can't be read
        rows = [row for row, photo in self._left.items() if photo.content_hash in by_content]

        def take(chosen: Callable[[ReferencePhoto, Task], bool], *, keeps_id: bool = False) -> None:
            for row in [row for row in rows if row in self._left]:
                photo = self._left[row]
                open_tasks = by_content[photo.content_hash]
                if task := next((task for task in open_tasks if chosen(photo, task)), None):
                    open_tasks.remove(task)
                    del self._left[row]
                    record = replace(task.record, id=photo.id) if keeps_id else task.record
                    self._settle(row, photo, task, record)

        take(self._was_added_from, keeps_id=True)
        rows = [row for row in rows if row in self._left and self._has_left_its_place(self._left[row])]
        take(lambda photo, task: self._kept[task.landmark_id].id == photo.landmark_id)
        take(lambda photo, task: True)

    def _was_added_from(self, photo: ReferencePhoto, task: Task) -> bool:
        """Return whether a photo was added from the file of a task, under an id of its own."""
        return photo.id not in self._ids and photo.file is not None and is_same_path(photo.file, task.file)

    def _has_left_its_place(self, photo: ReferencePhoto) -> bool:
        """Return whether a photo's bytes are no longer where the gallery saw them, as far as it knows."""
        if photo.id in self._ids or photo.file is None or self._is_of_dataset(photo):
            return True
        return not photo_exists(photo.file)

    def _is_of_dataset(self, photo: ReferencePhoto) -> bool:
        """Return whether a photo came from this dataset, also if the dataset lay in another folder then."""
        folder = self._folder_of(photo)
        if folder == self._folder or (folder in self._seen_folders and folder and not Path(folder).is_dir()):
            return True
        return photo.file is not None and is_below(photo.file, self._folder)

    def _folder_of(self, photo: ReferencePhoto) -> str:
        """Return the data folder that a photo came from, or "" if it came from none or is not known to."""
        if photo.folder:
            return photo.folder
        if photo.file is not None:  # older formats have only the whole path
            file = photo.file.as_posix()
            return file.removesuffix(f"/{photo.id}") if file.endswith(f"/{photo.id}") else ""
        names = map(compared, self._landmark_of(photo).data_names)
        return self._folder if not folders_above(photo.id).isdisjoint(names) else ""

    def _landmark_of(self, photo: ReferencePhoto) -> Landmark:
        return self._known.get(photo.landmark_id or 0, NO_LANDMARK)

    def _refile(self, photo: ReferencePhoto) -> ReferencePhoto:
        """Return the record of a photo that is gone from a dataset which itself lies in another folder now."""
        url = photo.source if "://" in photo.source else ""
        return replace(photo, source=url, path=photo.path or photo.id, folder=self._folder)

    def _find_renamed(self) -> Iterator[RenamedFolder]:
        """Yield the landmarks whose photos went together from a folder that is gone to a new one."""
        went: dict[Origin, Counter[int]] = defaultdict(Counter)
        came: dict[int, set[Origin | None]] = defaultdict(set)
        for moved in self._plan.moved:
            origin = self._lost_origin(moved.before)
            came[moved.landmark_id].add(origin)
            if origin:
                went[origin][moved.landmark_id] += 1
        lost = Counter(filter(None, map(self._lost_origin, self._plan.gone)))
        landmarks = dict(self._known)
        for origin, places in went.items():
            (landmark_id, photos), *others = places.most_common()
            new = self._kept[landmark_id].id not in self._known
            if new and not others and came[landmark_id] == {origin} and photos > lost[origin]:
                renamed = rename_origin(landmarks[origin[0]], origin[1], self._brought[landmark_id], photos)
                landmarks[origin[0]] = renamed.landmark
                yield renamed

    def _lost_origin(self, photo: ReferencePhoto) -> Origin | None:
        """Return the landmark and the folder that a photo came from, if the dataset no longer has that folder."""
        landmark = self._landmark_of(photo)
        names = landmark.data_names
        if len(names) > 1:  # of a merged landmark, a photo's id tells the folder
            names = tuple(name for name in names if compared(name) in folders_above(photo.id))
        if len(names) != 1 or compared(names[0]) in self._present:
            return None
        return landmark.id, names[0]


def rename_origin(landmark: Landmark, before: str, brought: Landmark, photos: int) -> RenamedFolder:
    """Return a landmark of the gallery that data now brings under another name.

    Its own name follows if it was that of the data; a name that somebody gave it stays.
    """
    name = brought.name if compared(landmark.name) == compared(before) else landmark.name
    origins = tuple(brought.name if origin == before else origin for origin in landmark.data_names)
    return RenamedFolder(
        landmark=replace(landmark, name=name, origins=() if origins == (name,) else origins),
        before=before,
        after=brought.name,
        landmark_id=brought.id,
        photos=photos,
    )


def describe_file(photo: ReferencePhoto) -> tuple[str, ...]:
    """Return what a record says about where its photo is, URL, data folder and path, and of who made it."""
    url = photo.source if "://" in photo.source else ""
    return url, photo.folder, photo.path or ("" if url else photo.source), photo.author, photo.licence


def folders_above(photo_id: str) -> frozenset[str]:
    """Return the names of the folders in the id of a photo, in the form in which names are compared."""
    return frozenset(map(compared, photo_id.split("/")[:-1]))


def is_same_path(one: Path, other: Path) -> bool:
    """Return whether two paths lead to one file, links followed."""
    return os.path.realpath(one) == os.path.realpath(other)


def is_below(path: Path, folder: str) -> bool:
    """Return whether a path lies in a folder, links followed."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
