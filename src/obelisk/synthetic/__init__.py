"""Rendered photos of made-up landmarks, for ``obelisk demo``, the tests and the background.

::

    dataset      a whole dataset in GLDv2's layout    scenery     sky, hills, towns, ground, water
    rendering    photos of a landmark                 trees       trees
    distractors  photos of anything else              foreground  people, cars, boats, branches, weather
    scene        a landmark and its surroundings      camera      projection, shading, shadow
    buildings    five kinds of landmarks              light       time of day, weather, season
    bridges      the sixth                            mesh        solids made of flat faces
    place_names  names and coordinates                canvas, palette  pens and colors

Every photo is a function of its seed and number.
"""

from __future__ import annotations

from obelisk.synthetic.dataset import generate_dataset
from obelisk.synthetic.distractors import render_distractor
from obelisk.synthetic.rendering import render_camera_photo, render_photo

__all__ = ["generate_dataset", "render_camera_photo", "render_distractor", "render_photo"]
