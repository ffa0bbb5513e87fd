"""Registration of a mouse to an atlas from landmarks that a person sees on a frame: ``streamscore register``.

Bregma and lambda, two points, give a rotation, a scale and a shift (a similarity); more pairs give the affine
transform with the least squares. What no head under a microscope looks like is refused, and a picture shows
what the chain will see (:mod:`streamscore.registration_picture`): look at it.

The atlas (:mod:`streamscore.atlas`) is our own drawing on 128×128 pixels of 78 µm, unless the lab gives the mask
and the landmarks of its own. Positions are ``(x, y)`` as in :mod:`streamscore.transform`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from streamscore.arrays import read_array
from streamscore.atlas import Atlas, check_inside, drawn_atlas, read_atlas
from streamscore.errors import ConfigError
from streamscore.transform import Point, Shape, Transform, write_transform
from streamscore.types import FloatArray, TimeArray

Pairs = Mapping[str, tuple[Point, Point]]

#: Landmarks closer than this, in pixels, say nothing of a direction.
_CLOSEST_PX = 5.0
#: Share of the brain that a frame may miss.
_MAX_OUTSIDE = 0.1
#: A brain that spans less of a frame than this was not meant by the landmarks.
_SMALLEST_BRAIN = 0.2
#: How much longer than wide an affine transform may make a pixel.
_MAX_STRETCH = 1.3
#: 60 frames of 2048 × 2048 pixels.
_MAX_FRAME_VALUES = 2**28


def register(pairs: Pairs, frame_shape: Shape, atlas: Atlas, max_rotation_deg: float = 60.0) -> Transform:
    """Find the transform that brings landmarks on the camera to those of the atlas.

    Parameters
    ----------
    pairs
        Name → position on the camera and in the atlas: two for a similarity, more for an affine transform.
    frame_shape
        ``(height, width)`` of the camera's frames.
    atlas
        See :class:`Atlas`.
    max_rotation_deg
        Refuse to turn frames further; 180 for a camera that stands the other way round.

    Raises
    ------
    ConfigError
        If landmarks lie outside the frame or in one place, or give a transform that is not plausible: turned
        too far, mirrored, stretched, a brain that lies outside the frame or is tiny.
    """
    check_inside({name: camera for name, (camera, _) in pairs.items()}, frame_shape, "the frame")
    camera, wanted = (np.array([pair[side] for pair in pairs.values()], np.float64) for side in (0, 1))
    if len(pairs) < 2:
        raise ConfigError(f"registration needs two landmarks or more and got {', '.join(pairs) or 'none'}")
    for points, where in ((camera, "frame"), (wanted, "atlas")):
        _check_apart(list(pairs), points, where)
    matrix = _similarity(camera, wanted) if len(pairs) == 2 else _affine(camera, wanted)
    try:
        transform = Transform(matrix, frame_shape, atlas.shape, atlas.mask, dict(pairs))
    except ValueError as error:
        raise ConfigError(f"registration: {error}") from error
    _check_plausible(transform, max_rotation_deg)
    return transform


def _similarity(camera: TimeArray, wanted: TimeArray) -> TimeArray:
    """Turn, scale and shift two points; as complex numbers that is one product and one sum."""
    a, b = camera @ [1, 1j], wanted @ [1, 1j]
    turn = (b[1] - b[0]) / (a[1] - a[0])
    shift = b[0] - turn * a[0]
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def _affine(camera: TimeArray, wanted: TimeArray) -> TimeArray:
    for points in (camera, wanted):
        if np.linalg.svd(points - points.mean(axis=0), compute_uv=False)[1] < _CLOSEST_PX:
            raise ConfigError(
                "the landmarks lie on one line, which says nothing of what is beside it; give one more at the "
                "side, or only bregma and lambda"
            )
    known = np.column_stack((camera, np.ones(len(camera))))
    return np.asarray(np.linalg.lstsq(known, wanted, rcond=None)[0].T, np.float64)


def _check_apart(names: list[str], points: TimeArray, where: str) -> None:
    for k, name in enumerate(names):
        for j in range(k):
            distance = float(np.hypot(*(points[k] - points[j])))
            if distance < _CLOSEST_PX:
                raise ConfigError(
                    f"{names[j]} and {name} are {distance:.1f} pixels apart in the {where}, which says nothing of "
                    f"the direction; they must be {_CLOSEST_PX:g} or more"
                )


def _check_plausible(transform: Transform, max_rotation_deg: float) -> None:
    linear = transform.matrix[:, :2]
    if np.linalg.det(linear) < 0:
        raise ConfigError(
            "the landmarks mirror the brain; check that left and right are not exchanged, or flip the frames in "
            "the camera's software"
        )
    rotation_deg = transform.rotation_deg
    if abs(rotation_deg) > max_rotation_deg:
        raise ConfigError(
            f"the landmarks turn the frame by {rotation_deg:.0f}°, more than {max_rotation_deg:g}°; check that "
            "bregma and lambda are not exchanged (front is up). Turn the frames in the camera's software, or "
            "allow it with --max-rotation-deg 180"
        )
    largest, smallest = np.linalg.svd(linear, compute_uv=False)
    if largest > _MAX_STRETCH * smallest:
        raise ConfigError(
            f"the landmarks stretch the brain {largest / smallest:.2f} times as far in one direction as in the "
            f"other, more than {_MAX_STRETCH:g}; check each of them"
        )
    outside = transform.share_outside()
    if outside > _MAX_OUTSIDE:
        raise ConfigError(
            f"{outside:.0%} of the atlas' brain lies outside the frame, more than {_MAX_OUTSIDE:.0%}; the "
            "landmarks are too far apart or too close to the border. Check them, or give an atlas whose mask "
            "covers what the camera sees"
        )
    assert transform.mask is not None
    rows, columns = np.nonzero(transform.mask)
    brain = np.ptp(transform.to_camera(np.column_stack((columns, rows))), axis=0)
    share = float((brain / transform.frame_shape[::-1]).max())
    if share < _SMALLEST_BRAIN:
        raise ConfigError(
            f"the brain would span {share:.0%} of the frame, less than {_SMALLEST_BRAIN:.0%}; the landmarks are "
            "too close to each other. Check them"
        )


def mean_frame(value: str) -> FloatArray:
    """Read a frame ``(height, width)``, or the mean of frames ``(n, height, width)``.

    Raises
    ------
    ConfigError
        If the file cannot be used.
    """
    frames = read_array(value, "frame", max_values=_MAX_FRAME_VALUES)
    if frames.ndim not in (2, 3) or min(frames.shape[-2:]) < 2:
        raise ConfigError(
            f"frame {value}: has shape {frames.shape}; give one frame (height, width) or several of one light, "
            "(n, height, width)"
        )
    return np.asarray(frames if frames.ndim == 2 else frames.mean(axis=0), np.float32)


def parse_point(text: str, option: str) -> Point:
    """Return ``X,Y`` as numbers; raises ``ConfigError`` naming the option."""
    try:
        x, y = map(float, text.split(","))
    except ValueError:
        raise ConfigError(f"{option} {text!r}: write X,Y in pixels, for example {option} 63.5,56") from None
    return x, y


def register_command(
    frame: str,
    bregma: str,
    lambda_: str,
    output: Path,
    *,
    landmarks: Sequence[str] = (),
    atlas: str | None = None,
    atlas_bregma: str | None = None,
    atlas_lambda: str | None = None,
    max_rotation_deg: float = 60.0,
    picture: Path | None = None,
) -> list[str]:
    """What ``streamscore register`` does.

    Parameters
    ----------
    frame
        File of a frame, or of several of one light.
    bregma, lambda_
        ``X,Y`` on the frame.
    output
        File of the transform.
    landmarks
        More pairs, each ``X,Y=X,Y``: on the frame and in the atlas.
    atlas, atlas_bregma, atlas_lambda
        Mask of the lab's own atlas, and the landmarks on it.
    max_rotation_deg
        See :func:`register`.
    picture
        Where the overlay goes (.png), if anywhere.

    Returns
    -------
    list of str
        What to tell: the transform in words, and what to write into the rig file.

    Raises
    ------
    ConfigError
        If anything given cannot be used.
    """
    image = mean_frame(frame)
    if (atlas is None) != (atlas_bregma is None) or (atlas is None) != (atlas_lambda is None):
        raise ConfigError(
            "an atlas of your own needs all three: --atlas MASK --atlas-bregma X,Y --atlas-lambda X,Y"
        )
    reference = drawn_atlas()
    if atlas is not None:
        points = (
            parse_point(atlas_bregma or "", "--atlas-bregma"),
            parse_point(atlas_lambda or "", "--atlas-lambda"),
        )
        reference = read_atlas(atlas, *points)
    pairs = {
        "bregma": (parse_point(bregma, "--bregma"), reference.landmarks["bregma"]),
        "lambda": (parse_point(lambda_, "--lambda"), reference.landmarks["lambda"]),
    }
    for k, text in enumerate(landmarks):
        on_frame, _, in_atlas = text.partition("=")
        pairs[f"point {k + 1}"] = (parse_point(on_frame, "--landmark"), parse_point(in_atlas, "--landmark X,Y="))
    for path in (output, picture):
        if path is not None and not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
            raise ConfigError(
                f"{path}: the folder is absent or cannot be written to; choose another with --output"
            )
    height, width = image.shape
    transform = register(pairs, (height, width), reference, max_rotation_deg)
    if picture is not None:
        from streamscore.registration_picture import draw_overlay

        draw_overlay(image, transform, reference, picture)
    write_transform(transform, output)
    told = [
        f"frame {width} × {height} → atlas {reference.shape[1]} × {reference.shape[0]} pixels: turned by "
        f"{transform.rotation_deg:.1f}°, scaled by {transform.scale:.3f}, {transform.share_outside():.1%} of the "
        f"brain outside the frame" + (f", landmarks off by {transform.residual_px:.1f} px" if landmarks else ""),
        f"wrote {output}; write into the rig file: calibration: {{affine: {{path: {output}}}}}",
    ]
    return told if picture is None else [*told, f"look at {picture}: outline and areas must lie on the brain"]
