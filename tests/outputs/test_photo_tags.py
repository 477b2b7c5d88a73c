"""Tags in XMP sidecars: merged with what is there, read by other programs, and taken away again."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from obelisk.errors import SidecarError
from obelisk.outputs import tag_photo, untag_photo
from obelisk.outputs.photo_tags import format_angle
from obelisk.records import Recognition

ANSWER = Recognition(
    photo="",
    landmark="Space Needle",
    landmark_id=1,
    verdict="sure",
    confidence=0.99,
    latitude=47.6205,
    longitude=-122.3493,
)
DARKTABLE = """<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/"
    xmlns:s="http://purl.org/dc/elements/1.1/"
    xmlns:darktable="http://darktable.sf.net/"
   xmp:Rating="3"
   xmpMM:DerivedFrom="a.CR2"
   darktable:params="gz12eJxjYGBg&#10;AAE=&lt;&gt;&quot;">
   <!-- a history -->
   <s:subject>
    <rdf:Seq>
     <rdf:li>Holiday</rdf:li>
     <rdf:li>a|b &amp; c</rdf:li>
    </rdf:Seq>
   </s:subject>
   <darktable:history><rdf:Seq><rdf:li darktable:num="0" darktable:operation="exposure"/></rdf:Seq></darktable:history>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?keep this?>
"""


@pytest.fixture
def photo(tmp_path: Path) -> str:
    Image.new("RGB", (16, 12), "teal").save(tmp_path / "a.jpg")
    return str(tmp_path / "a.jpg")


def sidecar(photo: str) -> Path:
    return Path(f"{photo}.xmp")


def exiftool(path: Path | str) -> dict[str, Any]:
    if not shutil.which("exiftool"):
        pytest.skip("no exiftool")
    done = subprocess.run(["exiftool", "-j", "-a", "-n", "-struct", str(path)], capture_output=True, timeout=60)
    (found,) = json.loads(done.stdout)
    assert "Warning" not in found
    assert "Error" not in found
    return dict(found)


def test_other_programs_read_the_tags(photo: str) -> None:
    name = 'Peter/Paul | "塔" <b> & مسجد'
    before = Path(photo).read_bytes()
    change = tag_photo(replace(ANSWER, photo=photo, landmark=name), position=True)
    assert change.changed
    assert Path(photo).read_bytes() == before
    found = exiftool(sidecar(photo))
    assert found["Subject"] == [name]
    assert found["TagsList"] == [f"Places/{name.replace('/', '-')}"]
    assert found["HierarchicalSubject"] == [f"Places|{name.replace('|', '-')}"]
    assert (found["GPSLatitude"], found["GPSLongitude"]) == (pytest.approx(47.6205), pytest.approx(-122.3493))
    if shutil.which("exiv2"):
        done = subprocess.run(["exiv2", "-Pkt", "-b", str(sidecar(photo))], capture_output=True, timeout=60)
        said = done.stdout.decode()
        assert done.returncode == 0
        assert ["Xmp.dc.subject", name] in [line.split(maxsplit=1) for line in said.splitlines()]
        assert "Xmp.digiKam.TagsList" in said
        assert "Xmp.lr.hierarchicalSubject" in said


def test_a_sidecar_is_merged_and_given_back(photo: str) -> None:
    sidecar(photo).write_text(DARKTABLE, encoding="utf-8")
    sidecar(photo).chmod(0o640)
    before = exiftool(sidecar(photo))
    tag_photo(replace(ANSWER, photo=photo), position=True)
    written = sidecar(photo).read_text(encoding="utf-8")
    found = exiftool(sidecar(photo))
    assert found["Subject"] == ["Holiday", "a|b & c", "Space Needle"]
    assert found["TagsList"] == ["Holiday", "a|b & c", "Places/Space Needle"], "ours hides none of theirs"
    assert found["HierarchicalSubject"] == ["Holiday", "a-b & c", "Places|Space Needle"]
    assert found["GPSLatitude"] == pytest.approx(47.6205)
    for kept in ("<!-- a history -->", "<?keep this?>", "xmlns:s=", "&#10;AAE=&lt;", 'darktable:operation="exposure"'):
        assert kept in written
    assert stat.S_IMODE(sidecar(photo).stat().st_mode) == 0o640
    assert not tag_photo(replace(ANSWER, photo=photo), position=True).changed
    assert sidecar(photo).read_text(encoding="utf-8") == written

    untag_photo(photo)
    after = exiftool(sidecar(photo))
    for one in (before, after):
        for name in [name for name in one if name.startswith("File")]:
            del one[name]
    assert after == before


def test_another_answer_replaces_ours_and_an_unknown_photo_loses_them(photo: str) -> None:
    tag_photo(replace(ANSWER, photo=photo), position=True)
    change = tag_photo(replace(ANSWER, photo=photo, landmark="Gas Works Park"))
    assert str(change) == (f"{photo}.xmp: -Places/Space Needle, -47,37.23000N, -122,20.95800W, +Places/Gas Works Park")
    written = sidecar(photo).read_text(encoding="utf-8")
    assert "Gas Works Park" in written
    assert "Needle" not in written
    assert "GPS" not in written
    rejected = replace(ANSWER, photo=photo, landmark=None, verdict="probable")
    assert tag_photo(rejected, dry_run=True).changed
    assert sidecar(photo).exists()
    tag_photo(rejected)
    assert not sidecar(photo).exists(), "there was none before, and nobody else wrote into it"
    assert not tag_photo(rejected).changed
    assert not sidecar(photo).exists()


def test_what_others_wrote_since_stays(photo: str) -> None:
    tag_photo(replace(ANSWER, photo=photo))
    text = sidecar(photo).read_text(encoding="utf-8")
    sidecar(photo).write_text(text.replace("<rdf:li>Space", "<rdf:li>Mine</rdf:li><rdf:li>Space", 1), encoding="utf-8")
    untag_photo(photo)
    assert exiftool(sidecar(photo))["Subject"] == ["Mine"]


def test_a_tag_that_was_there_is_not_ours(photo: str) -> None:
    sidecar(photo).write_text(DARKTABLE.replace("Holiday", "Space Needle"), encoding="utf-8")
    tag_photo(replace(ANSWER, photo=photo))
    untag_photo(photo)
    assert exiftool(sidecar(photo))["Subject"] == ["Space Needle", "a|b & c"]


def test_a_photo_that_knows_its_position_keeps_it(tmp_path: Path) -> None:
    photo = str(tmp_path / "b.jpg")
    exif = Image.Exif()
    exif[0x8825] = {1: "N", 2: (48.0, 51.0, 0.0), 3: "E", 4: (2.0, 17.0, 0.0)}
    Image.new("RGB", (16, 12)).save(photo, exif=exif)
    tag_photo(replace(ANSWER, photo=photo), position=True)
    assert "GPS" not in sidecar(photo).read_text(encoding="utf-8")

    other = str(tmp_path / "c.jpg")
    Image.new("RGB", (16, 12)).save(other)
    mine = DARKTABLE.replace("xmp:Rating", 'e:GPSLatitude="1,0N" xmlns:e="http://ns.adobe.com/exif/1.0/" xmp:Rating')
    sidecar(other).write_text(mine.replace("a.CR2", "c.CR2"), encoding="utf-8")
    tag_photo(replace(ANSWER, photo=other), position=True)
    assert sidecar(other).read_text(encoding="utf-8").count("GPSL") == 1


BOMB = '<!DOCTYPE x [<!ENTITY a "b"><!ENTITY c SYSTEM "file:///etc/passwd">]>'
ROOT = '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:dc="http://purl.org/dc/elements/1.1/">'


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no XML"),
        (b"not XML", "no XML"),
        (b"\xff\xd8\xff\xe0 a JPEG", "not UTF-8"),
        (DARKTABLE.encode()[:700], "no XML"),
        (DARKTABLE.replace("<x:xmpmeta", BOMB + "<x:xmpmeta", 1).encode(), "document type"),
        (DARKTABLE.replace("Holiday", "&unknown;").encode(), "undefined entity"),
        (DARKTABLE.replace("UTF-8", "ISO-8859-1").encode(), "ISO-8859-1"),
        (b"<svg/>", "no XMP"),
        (b"<a>" * 5000, "inside each other"),
        (
            DARKTABLE.replace("a.CR2", "IMG_7.CR2").encode(),
            "belongs to another photo: its xmpMM:DerivedFrom is `IMG_7.CR2`",
        ),
        (f"{ROOT}<rdf:Description><dc:subject>word</dc:subject></rdf:Description></rdf:RDF>".encode(), "is no list"),
    ],
)
def test_a_sidecar_that_cannot_be_used_is_left_as_it_is(photo: str, content: bytes, reason: str) -> None:
    sidecar(photo).write_bytes(content)
    with pytest.raises(SidecarError, match=reason) as refused:
        tag_photo(replace(ANSWER, photo=photo))
    assert refused.value.where == str(sidecar(photo))
    assert sidecar(photo).read_bytes() == content
    assert sorted(os.listdir(Path(photo).parent)) == ["a.jpg", "a.jpg.xmp"]  # noqa: PTH208


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_other_encodings_come_back_as_they_were(photo: str, encoding: str) -> None:
    text = DARKTABLE if encoding == "utf-8-sig" else DARKTABLE.replace("UTF-8", "UTF-16")
    sidecar(photo).write_bytes(text.encode(encoding))
    tag_photo(replace(ANSWER, photo=photo, landmark="塔"))
    written = sidecar(photo).read_bytes()
    assert "<rdf:li>Places|塔</rdf:li>" in written.decode(encoding)
    assert written[:2] == text.encode(encoding)[:2]
    assert exiftool(sidecar(photo))["Subject"] == ["Holiday", "a|b & c", "塔"]


def test_a_prefix_that_means_something_else_is_no_obstacle(photo: str) -> None:
    odd = DARKTABLE.replace("darktable:", "dc:").replace("xmlns:darktable", "xmlns:dc")
    sidecar(photo).write_text(odd.replace("xmlns:s=", "xmlns:digiKam="), encoding="utf-8")
    sidecar(photo).write_text(
        sidecar(photo).read_text(encoding="utf-8").replace("s:subject", "digiKam:subject"), "utf-8"
    )
    tag_photo(replace(ANSWER, photo=photo))
    found = exiftool(sidecar(photo))
    assert found["Subject"] == ["Holiday", "a|b & c", "Space Needle"]
    assert found["TagsList"] == ["Holiday", "a|b & c", "Places/Space Needle"]


@pytest.mark.parametrize(
    ("degrees", "letters", "expected"),
    [(47.6205, "NS", "47,37.23000N"), (-0.0, "NS", "0,0.00000N"), (-179.9999999999, "EW", "180,0.00000W")],
)
def test_angles_are_degrees_and_minutes(degrees: float, letters: str, expected: str) -> None:
    assert format_angle(degrees, letters) == expected
