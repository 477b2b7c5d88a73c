"""A dataset embedded in shards: the same parts whatever happens, and refusals of what is not theirs."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from obelisk.arrays import l2_normalize
from obelisk.embedding import Bundle, Embedded, Embedder
from obelisk.embedding.shards import (
    WHOLE,
    EmbeddedPhotos,
    Shard,
    ShardPlan,
    ShardReport,
    embed_shard,
    open_plan,
    parse_shard,
    read_plan,
    shard_plan,
)
from obelisk.errors import DataError, ModelError, ObeliskError, UsageError
from obelisk.files import exclusive_lock
from obelisk.photos import content_hash

PHOTOS = 22  # and one that is none


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four photos a part, eight a manifest: what holds for these holds for 256 and 65,536."""
    monkeypatch.setattr(shard_plan, "PART_PHOTOS", 4)
    monkeypatch.setattr(shard_plan, "MANIFEST_PHOTOS", 8)


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (36, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """A folder per landmark, with one file that is no photo."""
    for number in range(PHOTOS):
        draw(tmp_path / "places" / f"place {number % 5}" / f"{number:02d}.png", number)
    (tmp_path / "places" / "place 2" / "07b.jpg").write_bytes(b"no photo")
    return tmp_path / "places"


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    """A GLDv2 dataset: three tars, of which the last has no photo of its table, and two photos that are files."""
    data = tmp_path / "gldv2"
    ids = [f"{number % 16:x}{number // 16:x}a{number:013x}" for number in range(PHOTOS)]
    rows = "".join(f"{image_id},,{number % 3}\n" for number, image_id in enumerate(ids))
    data.mkdir()
    (data / "train.csv").write_text("id,url,landmark_id\n" + rows)
    inside = [ids[2:9], ids[9:], ["fff0000000000000"]]
    for number, image_id in enumerate([*ids, "fff0000000000000"]):
        draw(tmp_path / "loose" / f"{image_id}.jpg", number)
    (data / "train").mkdir()
    for number, members in enumerate(inside):
        with tarfile.open(data / "train" / f"images_{number:03d}.tar", "w") as tar:
            for image_id in members:
                tar.add(tmp_path / "loose" / f"{image_id}.jpg", "/".join([*image_id[:3], f"{image_id}.jpg"]))
    for image_id in ids[:2]:
        target = data / "train" / "/".join(image_id[:3])
        target.mkdir(parents=True)
        (tmp_path / "loose" / f"{image_id}.jpg").rename(target / f"{image_id}.jpg")
    return data


@pytest.fixture
def bundle(write: Callable[..., Bundle]) -> Bundle:
    return write()


Embed = Callable[..., ShardReport]


@pytest.fixture
def embed(bundle: Bundle) -> Embed:
    """Embed a shard as the command does."""
    embedder = Embedder(bundle)

    def embed_one(
        data: Path, out: Path, shard: Shard = WHOLE, *, by: Embedder = embedder, **chosen: Any
    ) -> ShardReport:
        return embed_shard(open_plan(out, data, bundle, runtime=embedder.computes_with, **chosen), by, shard)

    return embed_one


def parts_of_folder(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "parts").iterdir()}


def read_rows(out: Path) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(path) for path in (out / "parts").iterdir()]).sort("image_id")


@pytest.mark.parametrize("kind", ["folders", "tars"])
def test_any_number_of_shards_makes_the_same_bytes(
    kind: str, embed: Embed, bundle: Bundle, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    data = request.getfixturevalue(kind)
    whole = embed(data, tmp_path / "whole")
    assert whole.photos == whole.embedded == PHOTOS + (kind == "folders")
    assert whole.missing == ()
    for count in (2, 3, 7):
        reports = [
            embed(data, tmp_path / str(count), Shard(number=number, count=count)) for number in range(count, 0, -1)
        ]
        assert parts_of_folder(tmp_path / str(count)) == parts_of_folder(tmp_path / "whole")
        assert sum(report.photos for report in reports) == whole.photos
        assert reports[-1].missing == ()
    rows = read_rows(tmp_path / "whole")
    assert set(rows["model"]) == {bundle.fingerprint}
    embedder = Embedder(bundle)
    for path, stored, digest in rows.select("path", "embedding", "content_hash").iter_rows():
        direct = embedder.embed_one(data / path)
        assert digest == direct.content_hash
        assert (stored is None) == (direct.embedding is None)
        assert stored is None or np.array_equal(np.array(stored, np.float32), direct.embedding)


def test_the_number_of_shards_may_change_on_the_way(embed: Embed, folders: Path, tmp_path: Path) -> None:
    embed(folders, tmp_path / "whole")
    assert len(embed(folders, tmp_path / "mixed", Shard(number=1, count=2)).missing) == 3
    again = embed(folders, tmp_path / "mixed", Shard(number=1, count=2))
    assert (again.photos, again.embedded, len(again.missing)) == (12, 0, 3)
    rest = embed(folders, tmp_path / "mixed")
    assert (rest.photos, rest.embedded) == (PHOTOS + 1, PHOTOS + 1 - 12)
    assert parts_of_folder(tmp_path / "mixed") == parts_of_folder(tmp_path / "whole")


class Dying(Embedder):
    """Embeds some photos, then the process is killed."""

    left = 0

    def embed(self, *photos: Any, **chosen: Any) -> Iterator[Embedded]:
        for embedded in super().embed(*photos, **chosen):
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            yield embedded


def test_a_killed_shard_does_at_most_one_part_again(
    embed: Embed, bundle: Bundle, folders: Path, tmp_path: Path
) -> None:
    embed(folders, tmp_path / "whole")
    dying, kept = Dying(bundle), 0
    for survived in (3, 6, 0, 9):
        dying.left = survived
        with pytest.raises(KeyboardInterrupt):
            embed(folders, tmp_path / "killed", by=dying)
        found = 4 * len(parts_of_folder(tmp_path / "killed"))
        assert found - kept > survived - 4
        kept = found
    left_behind = tmp_path / "killed" / "parts" / f".photos-000005-of-000006-.{'0' * 16}.partial"
    left_behind.touch()
    assert embed(folders, tmp_path / "killed").embedded == PHOTOS + 1 - kept
    assert parts_of_folder(tmp_path / "killed") == parts_of_folder(tmp_path / "whole")


def test_bad_photos_are_recorded_with_their_reason(embed: Embed, folders: Path, tmp_path: Path) -> None:
    for _ in range(2):
        report = embed(folders, tmp_path / "out")
        assert [(path, reason[:11]) for path, reason in report.failed] == [
            (folders / "place 2" / "07b.jpg", "not a photo")
        ]
    row = read_rows(tmp_path / "out").filter(pl.col("error").is_not_null())
    assert row.select("path", "embedding").row(0) == ("place 2/07b.jpg", None)


def test_float16_rows_are_those_that_a_gallery_keeps(
    embed: Embed, bundle: Bundle, folders: Path, tmp_path: Path
) -> None:
    embed(folders, tmp_path / "whole")
    embed(folders, tmp_path / "half", stored="float16")
    rows, halves = (
        read_rows(tmp_path / name).drop_nulls("embedding")["embedding"].to_numpy() for name in ("whole", "half")
    )
    assert np.array_equal(halves, l2_normalize(rows).astype(np.float16))
    photos = EmbeddedPhotos(read_plan(tmp_path / "half"), bundle)
    found = next(photos.embed(folders / "place 0" / "00.png")).embedding
    assert found is not None
    assert np.array_equal(l2_normalize(found[None])[0].astype(np.float16), halves[0])


def test_embedded_photos_are_found_by_their_content(
    embed: Embed, bundle: Bundle, folders: Path, tmp_path: Path
) -> None:
    embed(folders, tmp_path / "out")
    draw(folders / "place 9" / "new.png", 99)
    (folders / "place 0" / "00.png").rename(folders / "renamed.png")
    draw(folders / "place 1" / "01.png", 98)  # changed since
    photos = EmbeddedPhotos(read_plan(tmp_path / "out"), bundle)
    asked = [folders / "renamed.png", folders / "place 9" / "new.png", folders / "place 1" / "01.png"]
    asked += [folders / "place 2" / "07b.jpg", folders / "place 3" / "03.png"]
    direct = list(Embedder(bundle).embed(asked))
    for one, other in zip(photos.embed(asked), direct, strict=True):
        assert replace(one, embedding=None, error=None) == replace(other, embedding=None, error=None)
        assert str(one.error) == str(other.error)
        assert one.embedding is other.embedding is None or np.array_equal(one.embedding, other.embedding)  # type: ignore[arg-type]
    assert photos.taken == 2


def test_one_shard_has_one_process(embed: Embed, folders: Path, tmp_path: Path) -> None:
    embed(folders, tmp_path / "out", Shard(number=1, count=2))
    with exclusive_lock(tmp_path / "out" / ".shard-2-of-2.lock", wait=0) as acquired:
        assert acquired
        with pytest.raises(ObeliskError, match="another process is embedding shard 2/2"):
            embed(folders, tmp_path / "out", Shard(number=2, count=2))
    assert embed(folders, tmp_path / "out", Shard(number=2, count=2)).missing == ()


def rewrite_part(out: Path, **columns: pl.Expr) -> None:
    """Replace a part by one of other contents, under a name that fits them."""
    path = min((out / "parts").iterdir())
    changed = pl.read_parquet(path).with_columns(**columns)
    path.unlink()
    changed.write_parquet(path)
    path.rename(path.with_stem(f"{path.stem[:-32]}{content_hash(path.read_bytes())}"))


def cut_part(out: Path) -> None:
    path = min((out / "parts").iterdir())
    path.write_bytes(path.read_bytes()[:-9])


def drop_part(out: Path) -> None:
    min((out / "parts").iterdir()).unlink()


def swap_bytes(out: Path) -> None:
    path = min((out / "parts").iterdir())
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)


def lose_plan(out: Path) -> None:
    (out / "embeddings.json").unlink()


def garble_plan(out: Path) -> None:
    (out / "embeddings.json").write_text('{"format": 99}')


DAMAGE: dict[str, tuple[Callable[[Path], object], type[ObeliskError], str]] = {
    "a part is missing": (drop_part, DataError, "the part photos-000000-of-000006 is missing$|missing · "),
    "a part is cut off": (cut_part, DataError, "the part cannot be read"),
    "a part has other bytes": (swap_bytes, DataError, "the part is damaged"),
    "a part is of another model": (lambda out: rewrite_part(out, model=pl.lit("f" * 32)), ModelError, "another model"),
    "the plan is gone": (lose_plan, DataError, "no embeddings here"),
    "the plan is of a newer version": (garble_plan, ModelError, "unreadable plan of embeddings: format"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_folder_is_refused(name: str, embed: Embed, bundle: Bundle, folders: Path, tmp_path: Path) -> None:
    damage, kind, said = DAMAGE[name]
    embed(folders, tmp_path / "out")
    damage(tmp_path / "out")
    with pytest.raises(kind, match=said):
        list(EmbeddedPhotos(read_plan(tmp_path / "out"), bundle).embed([folders / "place 0" / "00.png"]))
    if "part has" in name or "part is of" in name:  # the other ones `embed` makes whole
        with pytest.raises(kind, match=said):
            embed(folders, tmp_path / "out")


def test_a_plan_is_of_one_model_one_runtime_and_one_dataset(
    embed: Embed, bundle: Bundle, write: Callable[..., Bundle], folders: Path, tars: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    embed(folders, out, Shard(number=1, count=9))
    runtime = Embedder(bundle).computes_with

    def refuse(kind: type[ObeliskError], said: str, data: Path = folders, by: Bundle = bundle, **chosen: Any) -> None:
        with pytest.raises(kind, match=said):
            open_plan(out, data, by, **{"runtime": runtime, **chosen})

    refuse(ModelError, "are of model `bundle`", by=write("other", std=(0.4, 0.4, 0.4)))
    refuse(UsageError, "set OBELISK_RUNTIME=onnxruntime", runtime="openvino-bf16-2025.3")
    refuse(UsageError, "stored as float32", stored="float16")
    refuse(DataError, "these are not the photos", data=tars)
    refuse(DataError, "no such folder", data=tmp_path / "nowhere")
    with pytest.raises(DataError, match="something other than embeddings"):
        open_plan(folders, folders, bundle, runtime=runtime)
    moved = folders.rename(tmp_path / "elsewhere")
    assert open_plan(out, moved, bundle, runtime=runtime).root == moved


def test_photos_of_a_disk_that_is_not_mounted_are_not_called_unusable(
    embed: Embed, folders: Path, bundle: Bundle, tmp_path: Path
) -> None:
    plan: ShardPlan = open_plan(tmp_path / "out", folders, bundle, runtime=Embedder(bundle).computes_with)
    folders.rename(tmp_path / "elsewhere")
    folders.mkdir()
    with pytest.raises(ObeliskError, match="if a disk is not mounted, mount it"):
        embed_shard(plan, Embedder(bundle))
    assert parts_of_folder(tmp_path / "out") == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [("0/4", "give 1/4 to 4/4"), ("5/4", "1/4 to 4/4"), ("1/0", "1/1"), ("3", "3/16"), ("a/b", "3/16")],
)
def test_a_shard_that_there_is_not_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_shard(text)
    assert parse_shard("3/16") == Shard(number=3, count=16)
