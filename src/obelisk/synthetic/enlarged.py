"""Photos of made-up landmarks as large as a camera's, for measuring speed."""

from __future__ import annotations

from PIL import Image, ImageChops

from obelisk.synthetic.rendering import render_photo

RENDERED_SIDE = 400
SENSOR_NOISE = 5.0  # standard deviation, grey levels: a JPEG of quality 90 then has the 2 to 3 MB of a camera's
MIDDLE_GREY = 128


def render_camera_photo(landmark_seed: int, photo_index: int, *, width: int = 4000, height: int = 3000) -> Image.Image:
    """Return a photo of the landmark of a seed at a camera's size, 12 megapixels by default.

    It shows no more than a small one, but its noise is a sensor's: a decoder has as much to do as for a true photo.
    """
    photo = render_photo(landmark_seed, photo_index, RENDERED_SIDE).resize((width, height), Image.Resampling.BICUBIC)
    noise = Image.effect_noise((width, height), SENSOR_NOISE).convert("RGB")
    return ImageChops.add(photo, noise, offset=-MIDDLE_GREY)
