"""A transform from a camera's pixels to those of an atlas, and the file that keeps it.

Positions are ``(x, y)``, column and row, in pixels; the centre of the first pixel is (0, 0). A transform is a
matrix of 2 rows and 3 columns: ``atlas = matrix[:, :2] @ camera + matrix[:, 2]``.

The file is JSON, written by ``streamscore register`` (:mod:`streamscore.registration`): ``matrix`` and its
``inverse``, ``frame_shape`` and ``atlas_shape``, the atlas' brain ``mask`` (packed), the ``landmarks`` on both
sides, and ``sha256`` of the rest, so that a file that was altered or cut is found out.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streamscore import __version__
from streamscore.arrays import pack, read_array
from streamscore.errors import ConfigError
from streamscore.types import TimeArray

Point = tuple[float, float]
Matrix = tuple[tuple[float, float, float], tuple[float, float, float]]
Shape = tuple[int, int]

FORMAT = "streamscore transform"
FORMAT_VERSION = 1
_MAX_SIDE = 4096
_MAX_FILE_BYTES = 4_000_000
#: A matrix that squeezes a frame further than this onto a line is no transform.
_SMALLEST_DETERMINANT = 1e-6


@dataclass(frozen=True)
class Transform:
    """Where an atlas' pixels lie in the frames of a camera.

    Parameters
    ----------
    matrix
        ``(2, 3)``, camera → atlas.
    frame_shape, atlas_shape
        ``(height, width)`` of the two.
    mask
        ``(height, width)`` bool, true on the atlas' brain; ``None`` where it is not known.
    landmarks
        Name → position on the camera and in the atlas.
    """

    matrix: TimeArray
    frame_shape: Shape
    atlas_shape: Shape
    mask: npt.NDArray[np.bool_] | None = None
    landmarks: dict[str, tuple[Point, Point]] | None = None

    def __post_init__(self) -> None:
        for shape in (self.frame_shape, self.atlas_shape):
            if min(shape) < 1 or max(shape) > _MAX_SIDE:
                raise ValueError(f"a transform is for frames of 1 to {_MAX_SIDE} pixels a side, not of {shape}")
        if self.matrix.shape != (2, 3) or not np.isfinite(self.matrix).all():
            raise ValueError(f"a transform is a matrix of 2 × 3 finite numbers, got {self.matrix.tolist()}")
        if abs(np.linalg.det(self.matrix[:, :2])) < _SMALLEST_DETERMINANT:
            raise ValueError(f"transform {self.matrix.tolist()} maps the frame onto a line; register it again")
        if self.mask is not None and (self.mask.shape != self.atlas_shape or not self.mask.any()):
            raise ValueError(
                f"the atlas' mask has shape {self.mask.shape} and {int(self.mask.sum())} pixels of brain; it must "
                f"have shape {self.atlas_shape} and some brain"
            )

    @property
    def inverse(self) -> TimeArray:
        """``(2, 3)``, atlas → camera."""
        back = np.linalg.inv(self.matrix[:, :2])
        return np.column_stack((back, -back @ self.matrix[:, 2]))

    @property
    def scale(self) -> float:
        """Atlas pixels for each pixel of the camera."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix[:, :2]))))

    @property
    def rotation_deg(self) -> float:
        """How far frames are turned on their way to the atlas, clockwise on a screen."""
        (a, b), (c, d) = self.matrix[:, :2]
        return float(np.degrees(np.arctan2(c - b, a + d)))

    @property
    def residual_px(self) -> float:
        """Root mean square distance in the atlas between landmarks and where the transform brings them."""
        pairs = (self.landmarks or {}).values()
        if not pairs:
            return 0.0
        missed = self.to_atlas([camera for camera, _ in pairs]) - np.array([wanted for _, wanted in pairs])
        return float(np.sqrt((missed**2).sum(axis=1).mean()))

    def to_atlas(self, points: npt.ArrayLike) -> TimeArray:
        """Map positions ``(n, 2)`` on the camera."""
        return _apply(self.matrix, points)

    def to_camera(self, points: npt.ArrayLike) -> TimeArray:
        """Map positions ``(n, 2)`` in the atlas."""
        return _apply(self.inverse, points)

    def sources(self) -> TimeArray:
        """Where each pixel of the atlas comes from: positions on the camera, ``(height, width, 2)``."""
        height, width = self.atlas_shape
        x, y = np.meshgrid(np.arange(width), np.arange(height))
        return self.to_camera(np.stack((x, y), axis=-1).reshape(-1, 2)).reshape(height, width, 2)

    def inside(self) -> npt.NDArray[np.bool_]:
        """Which pixels of the atlas the camera sees, ``(height, width)``."""
        height, width = self.frame_shape
        x, y = np.moveaxis(self.sources(), -1, 0)
        seen: npt.NDArray[np.bool_] = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
        return seen

    def share_outside(self) -> float:
        """Return which share of the brain (of the whole atlas, without a mask) the camera does not see."""
        seen = self.inside()
        return float(1.0 - (seen if self.mask is None else seen[self.mask]).mean())

    def for_frames(self, frame_shape: Shape) -> Transform:
        """Return the same transform for frames reduced to `frame_shape`, binned or resized.

        Raises
        ------
        ValueError
            If they have other proportions, so that they must have been cut.
        """
        if frame_shape == self.frame_shape:
            return self
        factors = np.array(self.frame_shape[::-1]) / np.array(frame_shape[::-1])
        if abs(factors[0] / factors[1] - 1.0) > 0.01:
            raise ValueError(
                f"the transform was made for frames of {self.frame_shape} pixels and frames of {frame_shape} have "
                "other proportions; register a frame as the camera sends it now"
            )
        # Pixel k of the reduced frame has its centre at (k + 1/2) · factor - 1/2 of the large one.
        linear = self.matrix[:, :2] * factors
        shift = self.matrix[:, 2] + self.matrix[:, :2] @ (0.5 * factors - 0.5)
        return replace(self, matrix=np.column_stack((linear, shift)), frame_shape=frame_shape)


def _apply(matrix: TimeArray, points: npt.ArrayLike) -> TimeArray:
    moved: TimeArray = np.asarray(points, np.float64) @ matrix[:, :2].T + matrix[:, 2]
    return moved


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    format: str
    version: int
    streamscore: str
    matrix: Matrix
    inverse: Matrix
    frame_shape: tuple[int, int]
    atlas_shape: tuple[int, int]
    mask: str | None
    landmarks: dict[str, tuple[Point, Point]] = Field(default_factory=dict)
    sha256: str


def write_transform(transform: Transform, path: Path) -> None:
    """Write `transform` as JSON."""
    content: dict[str, Any] = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "streamscore": __version__,
        "matrix": transform.matrix.tolist(),
        "inverse": transform.inverse.tolist(),
        "frame_shape": list(transform.frame_shape),
        "atlas_shape": list(transform.atlas_shape),
        "mask": None if transform.mask is None else pack(transform.mask),
        "landmarks": {name: [list(a), list(b)] for name, (a, b) in (transform.landmarks or {}).items()},
    }
    content["sha256"] = _digest(content)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_transform(path: str | Path) -> Transform:
    """Read what :func:`write_transform` wrote.

    Raises
    ------
    ConfigError
        If there is no such file, or it is no transform, altered or of another version.
    """
    again = "write it again with: streamscore register FRAME --bregma X,Y --lambda X,Y"
    try:
        with Path(path).open("rb") as file:
            text = file.read(_MAX_FILE_BYTES + 1)
        if len(text) > _MAX_FILE_BYTES:
            raise ValueError(f"more than {_MAX_FILE_BYTES} bytes")
        content = json.loads(text)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError("it was not written by streamscore register")
        if content.get("version") != FORMAT_VERSION:
            raise ValueError(f"version {content.get('version')!r}, this streamscore reads {FORMAT_VERSION}")
        known = _File(**content)
        if known.sha256 != _digest({key: value for key, value in content.items() if key != "sha256"}):
            raise ValueError("its content does not match its SHA-256, so it was altered")
        mask = None if known.mask is None else read_array(known.mask, "the atlas' mask").astype(bool)
        return Transform(np.array(known.matrix), known.frame_shape, known.atlas_shape, mask, known.landmarks)
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, item["loc"])) for item in error.errors()[:3])
        raise ConfigError(f"{path}: not a transform to an atlas (see {fields}); {again}") from error
    except (OSError, ValueError, RecursionError, ConfigError) as error:
        raise ConfigError(f"{path}: not a transform to an atlas ({error}); {again}") from error


def _digest(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
