"""The camera, and how solids are drawn through it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from obelisk.synthetic.light import Light
from obelisk.synthetic.mesh import Mesh, Part, Surface

Canvas = Image.Image
Draw = ImageDraw.ImageDraw
SHADOW_SCALE = 4


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A camera that looks at the origin from ``azimuth`` (0: the front), ``distance`` away and ``height`` up.

    ``focal`` is in pixels; ``centre`` is the column of the origin and ``horizon`` the row of the horizon.
    ``keystone`` makes upright lines meet as they do when the camera is tilted. ``side`` is that of the picture.
    """

    azimuth: float
    distance: float
    height: float
    focal: float
    centre: float
    horizon: float
    keystone: float
    side: int

    @property
    def position(self) -> NDArray[np.float64]:
        """Where the camera stands."""
        return np.array([self.distance * math.sin(self.azimuth), -self.distance * math.cos(self.azimuth), self.height])

    def project(self, points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the pixels (V, 2) of points (V, 3), and their depths (V,)."""
        cos, sin = math.cos(self.azimuth), math.sin(self.azimuth)
        x, y, z = points.T
        depth = np.maximum(self.distance - x * sin + y * cos, self.distance * 0.08)
        rows = self.horizon - self.focal * (z - self.height) / depth
        columns = self.focal * (x * cos + y * sin) / depth
        columns = self.centre + columns * (1 - self.keystone * (self.horizon - rows) / self.side)
        return np.stack([columns, rows], axis=1), depth

    def spot(self, x: float, y: float, z: float = 0.0) -> tuple[float, float, float]:
        """Return the column and row of one point, and how many pixels a unit is there (0 behind the camera)."""
        cos, sin = math.cos(self.azimuth), math.sin(self.azimuth)
        depth = self.distance - x * sin + y * cos
        if depth < self.distance * 0.12:
            return (0.0, 0.0, 0.0)
        scale = self.focal / depth
        return (self.centre + scale * (x * cos + y * sin), self.horizon - scale * (z - self.height), scale)


def in_turn(mesh: Mesh, camera: Camera) -> list[Part]:
    """Return the parts of a mesh in the order in which they are drawn."""
    x, y, _ = camera.position
    near = -1 if y < 0 else 1

    def key(part: Part) -> tuple[int, int, float]:
        return (part.rank, part.layer * near, -math.hypot(part.anchor[0] - x, part.anchor[1] - y))

    return sorted(mesh.parts, key=key)


def turn_axles(mesh: Mesh, spin: float) -> NDArray[np.float64]:
    """Return the points of a mesh, parts with an axle turned about it by ``spin`` radians."""
    turning = [part for part in mesh.parts if part.axle is not None]
    if not turning:
        return mesh.points
    points = mesh.points.copy()
    cos, sin = math.cos(spin), math.sin(spin)
    for part in turning:
        assert part.axle is not None
        rows = slice(mesh.starts[part.first], mesh.starts[part.last])
        x, z = points[rows, 0] - part.axle[0], points[rows, 2] - part.axle[2]
        points[rows, 0] = part.axle[0] + cos * x - sin * z
        points[rows, 2] = part.axle[2] + sin * x + cos * z
    return points


def shade(mesh: Mesh, light: Light, lamps: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the colours (F, 3) of all faces in this light; ``lamps`` in [0, 1] says which windows are lit."""
    facing = np.clip(mesh.normals @ np.array(light.sun), 0, 1)[:, None]
    up = mesh.normals[:, 2:3]
    colours = mesh.colours
    if light.snow:
        snow = np.clip((up - 0.25) * 2.2, 0, 0.92)
        colours = colours * (1 - snow) + np.array([0.95, 0.97, 1.0]) * snow
    # The sky lights what looks up; near the ground, corners get less of it.
    low = np.clip(mesh.centres[:, 2:3] / max(mesh.height, 1e-6), 0, 1)
    sky = 0.86 + 0.14 * up
    ground = (0.88 + 0.12 * low) if light.night < 0.8 else (1.25 - 0.5 * low)
    colours = colours * (np.array(light.ambient) * sky * ground + np.array(light.sunlight) * facing)
    glass = mesh.surfaces[:, None] == Surface.WINDOW
    glow = np.array([1.0, 0.8, 0.46]) * (0.75 + 0.25 * lamps[:, None])
    share = light.night * (lamps[:, None] < 0.2 + 0.65 * light.night)
    colours = np.where(glass, colours * (1 - share) + glow * share, colours)
    colours = colours * (1 - light.fog) + np.array(light.haze) * light.fog
    shaded: NDArray[np.uint8] = (np.clip(colours, 0, 1) * 255).astype(np.uint8)
    return shaded


def draw_mesh(
    canvas: Draw, mesh: Mesh, camera: Camera, light: Light, *, spin: float, lamps: NDArray[np.float64]
) -> None:
    """Draw a landmark."""
    points, _ = camera.project(turn_axles(mesh, spin))
    toward = camera.position - mesh.centres
    lines = mesh.surfaces == Surface.LINE
    visible = ((np.einsum("ij,ij->i", mesh.normals, toward) > 0) | lines | turning_faces(mesh)).tolist()
    colours = list(map(tuple, shade(mesh, light, lamps).tolist()))
    flat = points.ravel().tolist()
    is_line = lines.tolist()
    thick = max(1, round(camera.side / 260))
    for part in in_turn(mesh, camera):
        for i in range(part.first, part.last):
            if not visible[i]:
                continue
            corners = flat[2 * mesh.starts[i] : 2 * mesh.starts[i + 1]]
            if is_line[i]:
                canvas.line(corners, fill=colours[i], width=thick)
            else:
                canvas.polygon(corners, fill=colours[i])


def turning_faces(mesh: Mesh) -> NDArray[np.bool_]:
    """Mark the faces of parts with an axle: thin, and seen from both sides."""
    marked = np.zeros(len(mesh.surfaces), dtype=bool)
    for part in mesh.parts:
        if part.axle is not None:
            marked[part.first : part.last] = True
    return marked


def cast_shadow(canvas: Canvas, mesh: Mesh, camera: Camera, light: Light) -> None:
    """Lay the soft shadow of a landmark on the ground: its faces, thrown along the light, and blurred."""
    x, y, z = light.sun
    strength = min(0.5, sum(light.sunlight) / 3)
    side = camera.side // SHADOW_SCALE
    mask = Image.new("L", (side, side))
    pen = ImageDraw.Draw(mask)
    reach = min(1 / max(z, 0.05), 3.0)
    thrown = mesh.points.copy()
    thrown[:, 0] -= mesh.points[:, 2] * x * reach
    thrown[:, 1] -= mesh.points[:, 2] * y * reach
    thrown[:, 2] = 0
    points, depth = camera.project(thrown)
    flat = (points / SHADOW_SCALE).ravel().tolist()
    solid = (mesh.surfaces == Surface.SOLID) & (mesh.normals @ np.array(light.sun) > 0)
    near = np.minimum.reduceat(depth, np.array(mesh.starts[:-1])) > camera.distance * 0.15
    if strength > 0.2:
        for i in np.flatnonzero(solid & near).tolist():
            pen.polygon(flat[2 * mesh.starts[i] : 2 * mesh.starts[i + 1]], fill=round(255 * strength))
    # Where walls meet the ground it is dark in any light.
    column, row, scale = camera.spot(0, 0)
    wide, flatness = mesh.radius * scale / SHADOW_SCALE, min(0.5, camera.height / camera.distance * 1.2 + 0.04)
    column, row = column / SHADOW_SCALE, row / SHADOW_SCALE
    pen.ellipse(
        (column - wide, row - wide * flatness, column + wide, row + wide * flatness),
        fill=round(255 * max(strength, 0.25)),
    )
    lay_down(canvas, mask.filter(ImageFilter.BoxBlur(side / 90)), camera)


def lay_down(canvas: Canvas, mask: Image.Image, camera: Camera) -> None:
    """Darken the ground where a small mask says so."""
    mask.paste(0, (0, 0, mask.width, min(mask.height, max(0, round(camera.horizon / SHADOW_SCALE)))))
    box = mask.getbbox()
    if box is None:
        return
    left, top, right, bottom = (edge * SHADOW_SCALE for edge in box)
    soft = mask.crop(box).resize((right - left, bottom - top), Image.Resampling.BILINEAR)
    canvas.paste((14, 16, 34), (left, top, right, bottom), soft)
