"""The camera, and how a landmark is drawn through it: projection, shading, shadow."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from obelisk.arrays import Floats, Integers
from obelisk.synthetic.light import Light
from obelisk.synthetic.mesh import Mesh, MeshPart, Surface
from obelisk.synthetic.sketches import Canvas, Draw

SHADOW_INK, SHADOW_SCALE = (14, 16, 34), 4
SNOW_COLOR, LAMP_COLOR = (0.95, 0.97, 1.0), (1.0, 0.8, 0.46)


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A camera that looks at the origin from ``azimuth`` (radians; 0 is the front), ``distance`` and ``height``.

    ``focal`` is in pixels, ``center`` the column of the origin, ``horizon`` the row of the horizon. ``keystone`` makes
    upright lines converge, as they do in a camera that is tilted. ``side`` is that of the picture.
    """

    azimuth: float
    distance: float
    height: float
    focal: float
    center: float
    horizon: float
    keystone: float = 0.0
    side: int

    @property
    def position(self) -> Floats:
        """Where the camera stands, (3,)."""
        return np.array([self.distance * math.sin(self.azimuth), -self.distance * math.cos(self.azimuth), self.height])

    def project(self, points: Floats) -> tuple[Floats, Floats]:
        """Return the pixels (V, 2) of points (V, 3), and their depths (V,)."""
        cos, sin = math.cos(self.azimuth), math.sin(self.azimuth)
        x, y, z = points.T
        depth = np.maximum(self.distance - x * sin + y * cos, self.distance * 0.08)
        rows = self.horizon - self.focal * (z - self.height) / depth
        columns = self.focal * (x * cos + y * sin) / depth
        columns = self.center + columns * (1 - self.keystone * (self.horizon - rows) / self.side)
        return np.stack([columns, rows], axis=1), depth

    def spot(self, x: float, y: float) -> tuple[float, float, float]:
        """Return the column and row of a point on the ground, and the pixels of one unit there (0: behind us)."""
        ((column, row),), (depth,) = self.project(np.array([[x, y, 0.0]]))
        return float(column), float(row), 0.0 if depth < self.distance * 0.12 else self.focal / float(depth)


def shade_faces(mesh: Mesh, light: Light, lamps: Floats) -> Integers:
    """Return the RGB (F, 3) of all faces in this light; ``lamps`` (F,) in [0, 1] decide which windows are lit."""
    facing = np.clip(mesh.normals @ np.array(light.sun), 0, 1)[:, None]
    up = mesh.normals[:, 2:3]
    snow = np.clip((up - 0.25) * 2.2, 0, 0.92) * light.snow
    colors = mesh.colors * (1 - snow) + np.array(SNOW_COLOR) * snow
    # The sky lights what looks up; near the ground, corners get less of it.
    low = np.clip(mesh.centers[:, 2:3] / max(mesh.height, 1e-6), 0, 1)
    ground = (0.88 + 0.12 * low) if light.night < 0.8 else (1.25 - 0.5 * low)
    colors = colors * (np.array(light.ambient) * (0.86 + 0.14 * up) * ground + np.array(light.sunlight) * facing)
    share = light.night * ((mesh.surfaces == Surface.WINDOW) & (lamps < 0.2 + 0.65 * light.night))[:, None]
    colors = colors * (1 - share) + np.array(LAMP_COLOR) * (0.75 + 0.25 * lamps[:, None]) * share
    colors = colors * (1 - light.fog) + np.array(light.haze) * light.fog
    shaded: Integers = (np.clip(colors, 0, 1) * 255).astype(np.int64)
    return shaded


def draw_mesh(pen: Draw, mesh: Mesh, camera: Camera, light: Light, lamps: Floats) -> None:
    """Draw a landmark: its parts from far to near, and of each part only the faces turned towards the camera."""
    flat = camera.project(mesh.points)[0].ravel().tolist()
    visible = (np.einsum("ij,ij->i", mesh.normals, camera.position - mesh.centers) > 0).tolist()
    fills = list(map(tuple, shade_faces(mesh, light, lamps).tolist()))
    x, y, _ = camera.position

    def turn(part: MeshPart) -> tuple[int, float]:
        return (part.rank, -math.hypot(part.anchor[0] - x, part.anchor[1] - y))

    for part in sorted(mesh.parts, key=turn):
        for i in range(part.first, part.last):
            if visible[i]:
                pen.polygon(flat[2 * mesh.starts[i] : 2 * mesh.starts[i + 1]], fill=fills[i])


def cast_shadow(canvas: Canvas, mesh: Mesh, camera: Camera, light: Light) -> None:
    """Lay the soft shadow of a landmark on the ground: its faces, thrown along the light, and blurred."""
    x, y, z = light.sun
    strength = min(0.5, sum(light.sunlight) / 3)
    side = camera.side // SHADOW_SCALE
    mask = Image.new("L", (side, side))
    pen = ImageDraw.Draw(mask)
    if strength > 0.2:
        reach = min(1 / max(z, 0.05), 3.0)
        thrown = mesh.points - mesh.points[:, 2:] * np.array([x * reach, y * reach, 1.0])
        points, depth = camera.project(thrown)
        flat = (points / SHADOW_SCALE).ravel().tolist()
        solid = (mesh.surfaces == Surface.SOLID) & (mesh.normals @ np.array(light.sun) > 0)
        near = np.minimum.reduceat(depth, np.array(mesh.starts[:-1])) > camera.distance * 0.15
        for i in np.flatnonzero(solid & near).tolist():
            pen.polygon(flat[2 * mesh.starts[i] : 2 * mesh.starts[i + 1]], fill=round(255 * strength))
    # It is dark in any light where walls meet the ground.
    column, row, scale = (value / SHADOW_SCALE for value in camera.spot(0, 0))
    wide = mesh.radius * scale
    high = wide * min(0.5, camera.height / camera.distance * 1.2 + 0.04)
    pen.ellipse((column - wide, row - high, column + wide, row + high), fill=round(255 * max(strength, 0.25)))
    mask = mask.filter(ImageFilter.BoxBlur(side / 90))
    mask.paste(0, (0, 0, side, min(side, max(0, round(camera.horizon / SHADOW_SCALE)))))
    if box := mask.getbbox():
        left, top, right, bottom = (edge * SHADOW_SCALE for edge in box)
        soft = mask.crop(box).resize((right - left, bottom - top), Image.Resampling.BILINEAR)
        canvas.paste(SHADOW_INK, (left, top), soft)
