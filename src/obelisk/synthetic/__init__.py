"""Rendered photos of made-up landmarks, for ``obelisk demo``, the tests and the background.

::

    dataset      a whole dataset in GLDv2's layout    scenery      sky, hills, towns, ground, water
    rendering    photos of a landmark                 sketches     trees, people, vehicles, flowers
    distractors  photos of anything else              camera       projection, shading, shadow
    scene        a landmark and its surroundings      light        time of day, weather, season
    buildings    four kinds of landmarks, houses      mesh         solids made of flat faces
    place_names  names and coordinates                palette      colors

Every photo is a function of its seed and number.
"""

from __future__ import annotations

from obelisk.synthetic.dataset import generate_dataset
from obelisk.synthetic.distractors import render_distractor
from obelisk.synthetic.rendering import render_camera_photo, render_photo

__all__ = ["generate_dataset", "render_camera_photo", "render_distractor", "render_photo"]
