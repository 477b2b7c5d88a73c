"""Finding out what is missing, and fetching it: tables first, then tars or single photos, side by side."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from obelisk.data.download.crew import do_all
from obelisk.data.download.extract import PartFetcher
from obelisk.data.download.http import Patience, Web
from obelisk.data.download.order import Order, Part
from obelisk.data.download.outlook import COMMONS_BYTES, Outlook, estimate_photo, look_ahead, refuse_too_little_room
from obelisk.data.download.plan import WantedPhoto, choose_photos, list_addresses
from obelisk.data.download.state import DownloadState, PartState
from obelisk.data.download.tally import Tally
from obelisk.data.download.tars import fit_photo, place_photo
from obelisk.data.formats.gldv2 import TRAIN, TRAIN_CLEAN, find_tables
from obelisk.errors import DownloadError, ObeliskError, PhotoError, UsageError
from obelisk.photos import read_photo
from obelisk.photos.tars import MAX_BYTES

Watch = Callable[[Tally], None]

CHECKED_SIDE = 64
SINGLE_PHOTOS = "train/single photos"  # stands in the state for all that come from their own addresses


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Something that could not be fetched, by its path in the dataset's folder, and why."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a download did: how many files came, how many were there before, what failed, and what was odd."""

    fetched: int
    there: int
    failed: tuple[Failure, ...]
    remarks: tuple[str, ...]


class Download:
    """One order being carried out.

    ``jobs`` files come side by side; photos from their own addresses come two at a time, ``rate`` a second.
    ``watch`` is called on the calling thread, several times a second.
    """

    def __init__(
        self,
        order: Order,
        state: DownloadState,
        *,
        jobs: int = 4,
        rate: float = 2.0,
        patience: Patience | None = None,
        watch: Watch = lambda tally: None,
    ) -> None:
        self.order = order
        self.state = state
        self.jobs = jobs
        self.stopping = threading.Event()
        self.web = Web(patience=patience, stopping=self.stopping)
        self.photo_web = Web(patience=patience, stopping=self.stopping, rate=rate)
        self.watch = watch
        self._fetched = self._there = 0
        self._failed: list[Failure] = []
        self._remarks: list[str] = []
        self._size_noted = False
        self._counting = threading.Lock()

    def look_ahead(self) -> Outlook:
        """Return what is missing, how large it is, and what room there is; nothing is written.

        Raises UsageError where what is there is kept at another size.
        """
        self._refuse_other_size()
        parts = [*self.order.list_tables(), *self.order.list_tars()]
        missing = [part for part in parts if not self.fetcher().is_done(part)]
        sizes = self._ask_sizes(missing)
        outlook = look_ahead(self.order, missing, sizes, there=len(parts) - len(missing), jobs=self.jobs)
        tables_missing = any(part.sum_url is None for part in missing)
        if not self.order.by_photo or tables_missing:
            return outlook
        photos = sum(not self._is_there(photo) for photo in self._list_photos())
        room = photos * estimate_photo(self.order.max_side, whole=COMMONS_BYTES)
        return replace(outlook, photos=photos, needed=round(room))

    def run(self) -> Report:
        """Fetch what is missing, and say what came of it.

        Raises DownloadError when there is not enough room, or a table that is needed does not come; UsageError or
        DataError for an order that the tables do not allow.
        """
        outlook = self.look_ahead()
        self._there = outlook.there
        refuse_too_little_room(outlook.needed, self.order.directory)
        self._fetch_parts("tables", [part for part in outlook.missing if not part.sum_url], outlook)
        if self.order.by_photo:
            self._refuse_without_tables()
            self._fetch_photos(self._list_photos())
        elif tars := [part for part in outlook.missing if part.sum_url]:
            wanted = None
            if self.order.choosing_tables and any(part.split == "train" for part in tars):
                self._refuse_without_tables()
                wanted = frozenset(choose_photos(self.order)["image_id"])
            self._fetch_parts("tars", tars, outlook, wanted=wanted)
        return Report(
            fetched=self._fetched, there=self._there, failed=tuple(self._failed), remarks=tuple(self._remarks)
        )

    def fetcher(self, tally: Tally | None = None, wanted: frozenset[str] | None = None) -> PartFetcher:
        """Return what fetches one part, counting into ``tally``."""
        tally = tally or Tally("nothing", "bytes")
        return PartFetcher(
            order=self.order,
            state=self.state,
            web=self.web,
            received=tally.add,
            expect=tally.expect,
            remark=self._remarks.append,
            wanted=wanted,
        )

    def _ask_sizes(self, parts: Sequence[Part]) -> dict[str, int]:
        """Ask the server how large the parts are, until it stops answering."""
        sizes = {part.path: size for part in parts if (size := self.state.read(part.path).bytes) is not None}
        silence = 0

        def ask(part: Part) -> None:
            nonlocal silence
            if silence > self.jobs:
                return
            answered, size = self.web.ask_size(part.url)
            silence = 0 if answered else silence + 1
            if size is not None:
                sizes[part.path] = size

        self._do([partial(ask, part) for part in parts if part.path not in sizes], lambda: None)
        return sizes

    def _fetch_parts(
        self, what: str, parts: Sequence[Part], outlook: Outlook, *, wanted: frozenset[str] | None = None
    ) -> None:
        """Fetch tables or tars side by side."""
        if not parts:
            return
        tally = Tally(what, "bytes", done=sum(outlook.present[part.path] for part in parts))
        for part in parts:
            tally.expect(part.path, outlook.sizes.get(part.path))
        fetcher = self.fetcher(tally, wanted)
        tasks = (partial(self._try, part.path, partial(fetcher.fetch, part)) for part in parts)
        self._do(tasks, lambda: self.watch(tally))

    def _refuse_other_size(self) -> None:
        """Raise UsageError where photos lie that are kept at another size than is wanted now."""
        wanted = self.order.max_side or 0
        for kept in self.state.list_extracted() if self.order.unpacks else ():
            folder = kept.path.partition("/")[0]
            if kept.max_side == wanted or folder not in self.order.folders:
                continue
            if not any((self.order.directory / folder).rglob("*.jpg")):
                continue
            size = f"with --max-side {kept.max_side}" if kept.max_side else "at full size"
            fix = "ask for the same size, or name another folder"
            raise UsageError(f"the photos in {folder} are kept {size}", where="--max-side", fix=fix)

    def _refuse_without_tables(self) -> None:
        """Raise DownloadError for a table that photos are chosen by, and that neither came nor is there."""
        found = find_tables(self.order.directory)
        there = {TRAIN: found.train, TRAIN_CLEAN: found.train_clean}
        for name in self.order.choosing_tables:
            for failure in self._failed:
                if failure.path == f"metadata/{name}" and there[name] is None:
                    raise DownloadError(f"no photos without this table: {failure.reason}")

    def _list_photos(self) -> list[WantedPhoto]:
        """Return the photos that are wanted one by one."""
        return list(list_addresses(self.order.directory, choose_photos(self.order)))

    def _is_there(self, photo: WantedPhoto) -> bool:
        """Say whether a photo is on the disk."""
        return (self.order.directory / photo.path).exists()

    def _fetch_photos(self, photos: Sequence[WantedPhoto]) -> None:
        """Fetch photos from their own addresses."""
        missing = [photo for photo in photos if not self._is_there(photo)]
        self._there += len(photos) - len(missing)
        room = len(missing) * estimate_photo(self.order.max_side, whole=COMMONS_BYTES)
        refuse_too_little_room(round(room), self.order.directory)
        tally = Tally("photos", "photos", done=len(photos) - len(missing))
        tally.expect("all", len(photos))

        def fetch(photo: WantedPhoto) -> None:
            self._try(photo.path, partial(self._fetch_photo, photo))
            tally.add(1)

        self._do((partial(fetch, photo) for photo in missing), lambda: self.watch(tally), workers=2)

    def _fetch_photo(self, photo: WantedPhoto) -> None:
        """Fetch one photo; what is no photo is refused."""
        if not photo.url:
            raise DownloadError("train.csv gives no address for it", where=photo.image_id)
        data = self.photo_web.fetch_bytes(photo.url, limit=MAX_BYTES)
        try:
            read_photo(data, min_side=CHECKED_SIDE)
        except PhotoError as error:
            raise DownloadError(error.what, where=photo.url) from error
        self._note_size()
        place_photo(fit_photo(data, self.order.max_side)[0], self.order.directory / photo.path, sync=True)

    def _note_size(self) -> None:
        """Keep in the state how large single photos are, before the first of them is there."""
        with self._counting:
            if not self._size_noted:
                size = self.order.max_side or 0
                self.state.write(PartState(path=SINGLE_PHOTOS, progress="extracted", max_side=size))
                self._size_noted = True

    def _try(self, path: str, fetch: Callable[[], None]) -> None:
        """Do one task, and note what came of it."""
        try:
            fetch()
        except ObeliskError as error:
            self.state.write(replace(self.state.read(path), progress="failed", error=str(error)))
            with self._counting:
                self._failed.append(Failure(path=path, reason=str(error)))
        else:
            with self._counting:
                self._fetched += 1

    def _do(self, tasks: Iterable[Callable[[], None]], look: Callable[[], None], *, workers: int | None = None) -> None:
        """Do tasks on several threads."""
        do_all(tasks, workers=workers or self.jobs, stopping=self.stopping, look=look)
