"""Generated photos of made-up landmarks: the data of ``obelisk demo`` and of the tests, made where it is needed.

::

    mesh        solids out of flat faces            light       time of day, weather, season
    towers      ┐                                   camera      projection, shading, shadows
    halls       ├ thirteen kinds of landmarks       scenery     sky, hills, ground, water, trees
    spans       ┘                                   clutter     people, cars, lamps, branches
    landmark    shape and surroundings of a seed    rendering   one photo of a landmark
    invented    names and places                    distractors photos of anything else
    palette     colours                             dataset     a whole dataset in GLDv2's layout
                                                    enlarged    photos as large as a camera's
"""

from __future__ import annotations

from obelisk.synthetic.dataset import generate_dataset
from obelisk.synthetic.distractors import render_distractor
from obelisk.synthetic.enlarged import render_camera_photo
from obelisk.synthetic.rendering import render_photo

__all__ = ["generate_dataset", "render_camera_photo", "render_distractor", "render_photo"]
