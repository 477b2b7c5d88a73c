"""Pictures: any name, any shape of photo, anything missing; marks not by color alone; names of files safe."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from obelisk.errors import UsageError
from obelisk.photos import OWN_PICTURE_SUFFIX, ModelInput, read_query
from obelisk.recognition.explain import PictureFolder, draw_recognitions, draw_strip
from obelisk.recognition.explain.explanation import SMALL_PANEL, add_panels, describe_reference
from obelisk.recognition.explain.lettering import make_legible, text_width, wrap_text
from obelisk.recognition.explain.overlay import REGION_COLORS, light_up, locate_in_photo, outline_regions
from obelisk.recognition.explain.picture_folder import LONGEST, make_safe
from obelisk.recognition.explain.regions import MOST_REGIONS
from obelisk.recognition.explain.shown_photos import THINNEST, scale_photo
from obelisk.recognition.explain.strip import (
    COLUMNS,
    GUTTER,
    PANEL,
    WIDEST_CELL,
    WIDTH,
    describe_neighbor,
    draw_cells,
    name_answer,
    name_landmark,
    state_confidence,
)
from obelisk.records import Candidate, Neighbor, Recognition

NAMES = (
    "Dome",
    "Tôrre de Belém",
    "塔",
    "Θεσσαλονίκη",
    "",
    " ",
    "a\nb\tc",
    "x" * 300,
    "🗼 \udce9",
    "\u202eevil",
    "ß" * 40,
)


def answer_for(photo: Path, names: list[str], landmark: str | None = "Dome") -> Recognition:
    neighbours = tuple(
        Neighbor(id=f"{n}", landmark=name, landmark_id=n, similarity=0.5) for n, name in enumerate(names)
    )
    return Recognition(
        photo=str(photo),
        landmark=landmark,
        landmark_id=1,
        verdict="sure" if landmark else "unknown",
        confidence=0.7,
        neighbours=neighbours,
    )


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.new("RGB", (90, 60), "orange").save(path)
    return path


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_any_name_fits(name: str, photo: Path) -> None:
    for lines in (1, 2, 3):
        broken = wrap_text(name, 16, 120, lines=lines)
        assert len(broken) <= lines
        assert all(text_width(line, 16) <= 120 for line in broken)
    assert not re.search(r"[\n\t\u202e\udce9]", make_legible(name))
    draw_strip(answer_for(photo, [name], name), name, [photo])


def test_a_picture_says_how_sure_the_answer_is(photo: Path) -> None:
    sure = answer_for(photo, [], "Dome")
    first = Candidate(landmark="Dôme", landmark_id=1, score=0.6)
    probable = replace(sure, landmark=None, landmark_id=None, verdict="probable", candidates=(first,))
    undrawable = replace(probable, candidates=(replace(first, landmark="\U0001f5fc"),))
    scored = replace(sure, candidates=(replace(first, score=0.7),))
    assert [name_answer(answer) for answer in (sure, probable, undrawable, answer_for(photo, [], None))] == [
        "Dome",
        "probably Dôme",
        "probably landmark 1",
        "not a landmark I know",
    ]
    certain = replace(sure, confidence=0.9997)
    stated = [state_confidence(answer) for answer in (sure, certain, scored)]
    assert stated == ["confidence 70 %", "confidence >99 %", "score 0.70"]


def test_text_that_fits_stays_as_it_is() -> None:
    assert wrap_text("Space Needle", 16, 400) == ["Space Needle"]
    assert "".join(wrap_text("a" * 60, 16, 200, lines=9)) == "a" * 60
    assert " ".join(wrap_text("one two three four five six", 16, 90, lines=9)) == "one two three four five six"


@given(text=st.text(max_size=40), width=st.integers(40, 200))
def test_lines_never_overflow(text: str, width: int) -> None:
    assert all(text_width(line, 14) <= width for line in wrap_text(text, 14, width, lines=2))


def test_a_name_that_no_font_can_write_becomes_a_number() -> None:
    unwritable = "\U000130c0\U000130c1"
    assert make_legible(unwritable) == "??"
    assert name_landmark(unwritable, 42) == "landmark 42"
    assert name_landmark("", 42) == "landmark 42"
    assert name_landmark("Dome", 42) == "Dome"


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (7, 5), (4000, 3000)], ids=str)
def test_photos_of_any_shape_are_drawn_inside_their_box(size: tuple[int, int], tmp_path: Path) -> None:
    Image.new("RGB", size, "teal").save(tmp_path / "odd.png")
    drawn = scale_photo(read_query(tmp_path / "odd.png", min_side=200)[0], 200)
    assert max(drawn.size) == 200
    assert min(drawn.size) >= THINNEST
    draw_strip(answer_for(tmp_path / "odd.png", ["Dome"]), None, [tmp_path / "odd.png"])


def test_what_is_missing_leaves_its_place_empty(photo: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_text("no photo")
    strip = draw_strip(answer_for(photo, ["a", "b", "c"]), None, [None, tmp_path / "bad.jpg", tmp_path / "gone.jpg"])
    assert strip.width == WIDTH == 2 * PANEL + GUTTER
    draw_strip(answer_for(photo, []), None, [])


def test_a_reference_without_a_file_shows_the_link_to_it(photo: Path) -> None:
    def drawn(source: str | None, page: str | None = None, file: Path | None = None) -> bytes:
        neighbor = Neighbor(id="1", landmark="Dome", landmark_id=1, similarity=0.5, source=source)
        return draw_cells([describe_neighbor(neighbor, file, page=page)]).tobytes()

    address, other = "https://commons.wikimedia.org/wiki/File:Dome.jpg", "https://commons.wikimedia.org/wiki/Dome"
    assert drawn(address) != drawn(None), "a link"
    assert drawn(address) == drawn(address, other), "that of the photo, if it is known"
    assert drawn(None, other) == drawn(other)
    assert drawn("/home/me/dome.jpg") == drawn(None), "a path is no link"
    assert drawn(address, file=photo) == drawn(None, file=photo), "a photo that is there needs none"
    assert drawn("https://example.org/" + "x" * 3000) != drawn(address), "and any length fits"


def test_a_long_list_of_neighbours_is_cut(photo: Path) -> None:
    many = draw_strip(answer_for(photo, ["a"] * 50), None, [photo] * 50)
    some = draw_strip(answer_for(photo, ["a"] * (COLUMNS - 1)), None, [photo] * (COLUMNS - 1))
    assert many.tobytes() == some.tobytes()


def test_the_caption_of_the_best_reference_is_legible_to_the_end(photo: Path) -> None:
    panel = scale_photo(read_query(photo, min_side=90)[0], SMALL_PANEL)

    def drawn(name: str, end: str, similarity: float) -> bytes:
        reference = Neighbor(id=f"{name}/{end}", landmark=name, landmark_id=1, similarity=similarity)
        picture = Image.new("RGB", (1200, 900))
        add_panels(picture, 0, "Alike", [panel, panel], [["photo"], describe_reference(reference)], "Bright is alike.")
        return picture.tobytes()

    name = "The Old Capitol Theatre of Olympia, Washington, and the Square before it"
    assert len({drawn(name, "a.jpg", 0.5), drawn(name, "b.jpg", 0.5), drawn(name, "a.jpg", 0.6)}) == 3


def test_right_and_wrong_differ_in_more_than_color(photo: Path) -> None:
    answer = answer_for(photo, ["Dome"])
    pictures = [draw_recognitions([answer], [truth], [[photo]]).convert("L") for truth in ("Dome", "Gate", None)]
    shapes = [np.asarray(picture) < 200 for picture in pictures]
    top = GUTTER + WIDEST_CELL + 2
    beneath = [shape[top : top + 40, GUTTER : GUTTER + 24] for shape in shapes]
    assert beneath[0].any()
    assert beneath[1].any()
    assert (beneath[0] != beneath[1]).any()
    assert draw_recognitions([answer] * 2, ["Dome"] * 2, [[photo]] * 2).height > pictures[0].height


RULES = {rule: ModelInput(size=8, resize=rule, mean=(0, 0, 0), std=(1, 1, 1)) for rule in ("squash", "crop")}


@pytest.mark.parametrize(
    ("rule", "size", "expected"),
    [
        pytest.param("squash", (80, 40), (0, 0, 80, 40), id="squash: all of it"),
        pytest.param("crop", (80, 40), (20, 0, 60, 40), id="crop: the middle of a wide one"),
        pytest.param("crop", (40, 80), (0, 20, 40, 60), id="crop: the middle of a tall one"),
    ],
)
def test_cells_lie_where_the_network_saw_them(
    rule: str, size: tuple[int, int], expected: tuple[int, int, int, int]
) -> None:
    photo = Image.new("RGB", size, "white")
    left, top, right, bottom = expected
    assert locate_in_photo((0, 0, 4, 4), (4, 4), photo, RULES[rule]) == (left, top, right - 1, bottom - 1)
    lit = np.asarray(light_up(photo, np.ones((4, 4)), RULES[rule])).min(axis=2)
    assert (lit[top:bottom, left:right] == 255).all()
    lit = lit.copy()
    lit[top:bottom, left:right] = 0
    assert lit.max() < 128


def test_light_is_where_the_heat_is() -> None:
    heat = np.zeros((4, 4))
    heat[0, 3] = 1.0
    lit = np.asarray(light_up(Image.new("RGB", (80, 80), (200, 40, 40)), heat, RULES["squash"])).astype(int)
    assert lit[5, 75].tolist() == [200, 40, 40]
    assert np.ptp(lit[75, 5]) == 0, "gray"
    assert lit[75, 5].max() < 60


@pytest.mark.parametrize("size", [(300, 200), (12, 560), (560, 12), (1, 1)], ids=str)
def test_outlines_are_drawn_on_photos_of_any_size(size: tuple[int, int]) -> None:
    photo = Image.new("RGB", size, "gray")
    outline_regions(photo, [(0, 0, 1, 1), (6, 6, 7, 7), (0, 0, 7, 7)], (7, 7), RULES["crop"])
    assert (np.asarray(photo) != np.asarray(Image.new("RGB", size, "gray"))).any()
    assert len(REGION_COLORS) >= MOST_REGIONS


@pytest.mark.parametrize(
    ("stem", "safe"),
    [
        ("IMG_1234", "IMG_1234"),
        ("a b/c:d*e?", "a_b_c_d_e_"),
        ("..", "photo"),
        ("", "photo"),
        (".hidden", "hidden"),
        ("塔-é", "塔-é"),
        ("e\u0301", "é"),
        ("bad\udce9\n\0", "bad___"),
        ("CON", "_CON"),
        ("nul.tar", "_nul.tar"),
        ("com1", "_com1"),
        ("console", "console"),
        ("塔" * 200, "塔" * (LONGEST // 3)),
    ],
    ids=ascii,
)
def test_file_names_are_safe(stem: str, safe: str) -> None:
    assert make_safe(stem) == safe


def test_pictures_have_names_of_their_own(tmp_path: Path) -> None:
    folder = PictureFolder(tmp_path / "new" / "folder")
    photos = ["a/one.jpg", "b/one.png", "ONE.jpg", "one-2.jpg", "caf\udce9.jpg"]
    paths = [folder.save(photo, Image.new("RGB", (2, 2))) for photo in photos]
    names = [path.name.removesuffix(f"{OWN_PICTURE_SUFFIX}.jpg") for path in paths]
    assert names == ["one", "one-2", "ONE-3", "one-2-2", "caf_"]
    assert sorted(folder.path.iterdir()) == sorted(paths), "and nothing else"
    assert paths[0].read_bytes().startswith(b"\xff\xd8")


@pytest.mark.parametrize(("kind", "start"), [("jpg", b"\xff\xd8"), ("webp", b"RIFF"), ("png", b"\x89PNG")])
def test_pictures_have_the_format_of_their_suffix(kind: str, start: bytes, tmp_path: Path) -> None:
    path = PictureFolder(tmp_path, kind).save("one.bmp", Image.new("RGB", (2, 2)))
    assert path == tmp_path / f"one{OWN_PICTURE_SUFFIX}.{kind}"
    assert path.read_bytes().startswith(start)


def test_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`jpgg`"):
        PictureFolder(tmp_path / "new", "jpgg")
    assert not (tmp_path / "new").exists()


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError, match="cannot be made"):
            PictureFolder(path)


def test_a_picture_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(self: Image.Image, path: Path, **options: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", stop)
    with pytest.raises(OSError, match="No space"):
        PictureFolder(tmp_path).save("one.jpg", Image.new("RGB", (2, 2)))
    assert list(tmp_path.iterdir()) == []
