"""Galleries as notebooks and terminals show them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from obelisk.embedding import Bundle
from obelisk.gallery import Gallery, Landmark


def make_gallery(folder: Path, write_any_bundle: Callable[..., Bundle], landmarks: list[Landmark]) -> Gallery:
    gallery = Gallery.create(folder / "city", write_any_bundle(folder / "bundle", name="tiny", dimensions=4))
    if landmarks:
        rows = np.eye(4)[np.arange(len(landmarks)) % 4]
        gallery.add(rows, landmarks, [f"p{number}" for number in range(len(landmarks))])
    return gallery


def test_a_gallery_says_its_name_its_counts_and_its_model(
    tmp_path: Path, write_any_bundle: Callable[..., Bundle]
) -> None:
    gallery = make_gallery(tmp_path, write_any_bundle, [Landmark(id=n, name=f"L{n}") for n in (1, 2, 3)] * 2)
    assert repr(gallery) == f"Gallery('{tmp_path / 'city'}', 3 landmarks, 6 photos, model tiny)"
    shutil.rmtree(gallery.path)
    assert repr(gallery) == f"Gallery('{tmp_path / 'city'}', model tiny)"


def test_a_card_lists_the_landmarks_with_most_photos(tmp_path: Path, write_any_bundle: Callable[..., Bundle]) -> None:
    named = [Landmark(id=n, name=f"<b>{n}" + 300 * "x", latitude=47.61, longitude=-122.3) for n in range(12)]
    card = make_gallery(tmp_path, write_any_bundle, [*named, named[7]])._repr_html_()
    rows = card.split("<tr>")
    assert len(rows) == 2 + 10
    assert "&lt;b&gt;7" in rows[2]
    assert "47.6100" in rows[2]
    assert "and 2 more" in card
    assert "12 landmarks, 13 photos, model tiny" in card
    assert "<b>7" not in card
    assert len(card) < 20_000


def test_an_empty_gallery_has_a_card(tmp_path: Path, write_any_bundle: Callable[..., Bundle]) -> None:
    card = make_gallery(tmp_path, write_any_bundle, [])._repr_html_()
    assert "0 landmarks, 0 photos" in card
    assert "<table" not in card
