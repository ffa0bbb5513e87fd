from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from streamscore.atlas import Atlas, drawn_atlas, read_atlas
from streamscore.errors import ConfigError
from streamscore.preprocess import affine
from streamscore.registration import mean_frame, parse_point, register, register_command
from streamscore.simulate.cortex_map import CortexMap
from streamscore.transform import Point, read_transform
from tests.layouts import frames

ATLAS = drawn_atlas()
FRAMES = Path(__file__).parents[2] / "shared" / "data" / "wfci_frames" / "two_camera_128.npz"


def marked(drawing: CortexMap, atlas: Atlas = ATLAS) -> dict[str, tuple[Point, Point]]:
    """Landmarks of a simulated head and of the atlas."""
    on_frame = {name: (column, row) for name, (row, column) in drawing.landmarks_px.items()}
    return {name: (on_frame[name], atlas.landmarks[name]) for name in ("bregma", "lambda")}


@given(st.floats(-25, 25), st.floats(-0.5, 0.5), st.floats(-0.3, 0.3), st.sampled_from([(128, 160), (300, 256)]))
def test_a_head_that_is_turned_and_moved_is_brought_back(
    tilt_deg: float, right_mm: float, up_mm: float, shape: tuple[int, int]
) -> None:
    drawing = CortexMap(shape, tilt_deg, (right_mm, up_mm))
    transform = register(marked(drawing), shape, ATLAS)
    places = ((1.7, 1.5), (-3.0, -1.3), (2.4, -3.7), (-0.8, 2.5))  # mm, none of them a landmark
    camera = [drawing.pixel_of(*place)[::-1] for place in places]
    wanted = [CortexMap().pixel_of(*place)[::-1] for place in places]
    np.testing.assert_allclose(transform.to_atlas(camera), wanted, atol=1e-6)
    assert transform.rotation_deg == pytest.approx(-tilt_deg, abs=1e-6)
    assert transform.scale == pytest.approx(128 / min(shape))
    assert transform.residual_px < 1e-9


def test_the_chain_then_sees_the_atlas_brain() -> None:
    drawing = CortexMap((160, 200), 15.0, (0.4, -0.2))
    transform = register(marked(drawing), (160, 200), ATLAS)
    config = affine.Config(matrix=tuple(map(tuple, transform.matrix)), frame_shape=(128, 128))
    got = affine.build(config, frames(16.8, 160, 200)).push(drawing.mask.astype(np.float32)[None, None], 0)[0, 0]
    assert (got[ATLAS.mask] > 0.5).mean() > 0.99
    assert (got[~ATLAS.mask] > 0.5).mean() < 0.01


def test_three_pairs_give_the_affine_transform_that_meets_them() -> None:
    matrix = np.array([[0.95, -0.2, 10.0], [0.15, 1.05, -5.0]])
    camera: list[Point] = [(60.0, 50.0), (64.0, 100.0), (100.0, 70.0)]
    pairs = {f"p{k}": (p, tuple(matrix @ [*p, 1.0])) for k, p in enumerate(camera)}
    transform = register(pairs, (140, 140), ATLAS)
    np.testing.assert_allclose(transform.matrix, matrix, atol=1e-9)


def test_more_pairs_are_met_as_well_as_can_be() -> None:
    camera = np.array([(60.0, 50.0), (64.0, 100.0), (100.0, 70.0), (25.0, 75.0), (80.0, 30.0)])
    rng = np.random.default_rng(0)
    wanted = camera * 1.02 + rng.normal(0, 1.0, camera.shape)
    pairs = {f"p{k}": (tuple(a), tuple(b)) for k, (a, b) in enumerate(zip(camera, wanted, strict=True))}
    best = register(pairs, (140, 140), ATLAS)
    least = best.residual_px
    assert 0.1 < least < 2.0
    for _ in range(50):
        nudged = best.matrix + rng.normal(0, 0.01, (2, 3))
        moved = camera @ nudged[:, :2].T + nudged[:, 2]
        assert np.sqrt(((moved - wanted) ** 2).sum(axis=1).mean()) >= least


def similar(scale: float, turn_deg: float, x: float = 64.0, y: float = 64.0) -> dict[str, tuple[Point, Point]]:
    """Landmarks as a camera sees them that turns, scales and moves the atlas around its middle."""
    turn = np.radians(turn_deg)
    matrix = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    pairs = {}
    for name, place in ATLAS.landmarks.items():
        seen = matrix @ (np.array(place) - 63.5) + [x, y]
        pairs[name] = ((float(seen[0]), float(seen[1])), place)
    return pairs


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (
            {"bregma": ((64, 56), (64, 56)), "lambda": ((64, 128), (64, 110))},
            r"lambda at x 64, y 128 lies outside",
        ),
        ({"bregma": ((-3, 56), (64, 56)), "lambda": ((64, 90), (64, 110))}, r"bregma at x -3, y 56 lies outside"),
        ({"bregma": ((64, np.nan), (64, 56)), "lambda": ((64, 90), (64, 110))}, r"y nan lies outside"),
        ({"bregma": ((64, 56), (64, 56)), "lambda": ((64, 57), (64, 110))}, r"1\.0 pixels apart in the frame"),
        ({"bregma": ((64, 56), (64, 56)), "lambda": ((64, 90), (64, 56))}, r"0\.0 pixels apart in the atlas"),
        ({"bregma": ((64, 56), (64, 56))}, r"two landmarks or more and got bregma"),
        ({}, r"two landmarks or more and got none"),
        (similar(0.9, 75), r"turn the frame by -75°.*bregma and lambda are not exchanged.*--max-rotation-deg 180"),
        (similar(0.9, 180), r"turn the frame by -?180°"),
        (similar(1.0, 0, x=100), r"2\d% of the atlas' brain lies outside the frame, more than 10%"),
        (similar(1.6, 0, y=50), r"of the atlas' brain lies outside the frame"),
        (similar(0.15, 0), r"would span 1\d% of the frame, less than 20%"),
    ],
)
def test_what_no_head_looks_like_is_refused(pairs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        register(pairs, (128, 128), ATLAS)


def test_a_camera_that_stands_the_other_way_round_can_be_allowed() -> None:
    transform = register(similar(0.8, 180), (128, 128), ATLAS, max_rotation_deg=180)
    assert abs(transform.rotation_deg) == pytest.approx(180)


@pytest.mark.parametrize(
    ("third", "message"),
    [
        (((64.0, 80.0), (64.0, 81.0)), "on one line"),
        (((90.0, 80.0), (38.0, 80.0)), "mirror the brain"),
        (((90.0, 80.0), (110.0, 80.0)), r"stretch the brain 1\.\d\d times"),
    ],
)
def test_three_landmarks_that_cannot_be_are_refused(third: tuple[Point, Point], message: str) -> None:
    pairs = {"bregma": ((64.0, 56.0), (64.0, 56.0)), "lambda": ((64.0, 110.0), (64.0, 110.0)), "side": third}
    with pytest.raises(ConfigError, match=message):
        register(pairs, (128, 128), ATLAS)


def write_head(folder: Path) -> tuple[Path, str, str]:
    """A simulated frame as a file, and its landmarks as a person types them."""
    drawing = CortexMap((128, 160), 10.0, (0.3, 0.2))
    noise = np.random.default_rng(0).normal(0, 20, (3, 128, 160))
    np.save(folder / "frames.npy", (300 + 900 * gaussian_filter(drawing.mask.astype(float), 1) + noise))
    bregma, lambda_ = (f"{x:.1f},{y:.1f}" for y, x in drawing.landmarks_px.values())
    return folder / "frames.npy", bregma, lambda_


def test_the_command_writes_a_transform_that_the_chain_takes_and_a_picture(tmp_path: Path) -> None:
    image = pytest.importorskip("matplotlib.image")
    frame, bregma, lambda_ = write_head(tmp_path)
    output, picture = tmp_path / "mouse.json", tmp_path / "mouse.png"
    told = register_command(str(frame), bregma, lambda_, output, picture=picture)
    assert "turned by -10." in told[0]
    assert f"calibration: {{affine: {{path: {output}}}}}" in told[1]
    assert str(picture) in told[2]
    pixels = image.imread(picture)[..., :3]
    outline = np.nonzero(np.abs(pixels - np.array([1.0, 0.69, 0.0])).max(axis=2) < 0.1)  # orange
    assert len(outline[0]) > 1000
    assert outline[1].min() < pixels.shape[1] / 2 < outline[1].max()  # on the camera's side and on the atlas'
    step = affine.build(affine.Config(path=str(output)), frames(16.8, 128, 160))
    assert step.layout.frame_shape == (128, 128)
    got = step.push(np.load(frame).astype(np.float32)[:, None], 0)
    assert got[:, 0, ATLAS.mask].mean() > 2 * got[:, 0, ~ATLAS.mask].mean()


def test_an_atlas_of_the_labs_own_is_used(tmp_path: Path) -> None:
    frame, bregma, lambda_ = write_head(tmp_path)
    np.save(tmp_path / "atlas.npy", CortexMap((256, 256)).areas)
    marks = [f"{x},{y}" for y, x in CortexMap((256, 256)).landmarks_px.values()]
    args: dict[str, Any] = {
        "atlas": str(tmp_path / "atlas.npy"),
        "atlas_bregma": marks[0],
        "atlas_lambda": marks[1],
    }
    register_command(str(frame), bregma, lambda_, tmp_path / "a.json", **args)
    own = read_transform(tmp_path / "a.json")
    register_command(str(frame), bregma, lambda_, tmp_path / "b.json")
    drawn = read_transform(tmp_path / "b.json")
    assert own.atlas_shape == (256, 256)
    assert own.scale == pytest.approx(2 * drawn.scale)
    with pytest.raises(ConfigError, match="needs all three"):
        register_command(str(frame), bregma, lambda_, tmp_path / "c.json", **args | {"atlas_lambda": None})
    assert not (tmp_path / "c.json").exists()


def test_more_landmarks_are_told_how_far_they_are_off(tmp_path: Path) -> None:
    frame, bregma, lambda_ = write_head(tmp_path)
    drawing, atlas = CortexMap((128, 160), 10.0, (0.3, 0.2)), CortexMap()
    sides = [(3.0, -1.0), (-3.0, -1.0)]
    points = [(drawing.pixel_of(*side), atlas.pixel_of(*side)) for side in sides]
    texts = [f"{cx},{cy}={ax + 3},{ay}" for (cy, cx), (ay, ax) in points]
    told = register_command(str(frame), bregma, lambda_, tmp_path / "a.json", landmarks=texts)
    assert "landmarks off by 1." in told[0]
    assert set(read_transform(tmp_path / "a.json").landmarks or {}) == {"bregma", "lambda", "point 1", "point 2"}


@pytest.mark.parametrize("text", ["", "3", "3;4", "3,4,5", "a,b"])
def test_points_are_typed_as_two_numbers(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--bregma '.*': write X,Y in pixels, for example --bregma 63"):
        parse_point(text, "--bregma")
    assert parse_point("3, 4.5", "--bregma") == (3.0, 4.5)


def test_a_landmark_without_its_partner_is_refused(tmp_path: Path) -> None:
    frame, bregma, lambda_ = write_head(tmp_path)
    with pytest.raises(ConfigError, match="--landmark"):
        register_command(str(frame), bregma, lambda_, tmp_path / "a.json", landmarks=["3,4"])


def test_frames_of_one_light_are_averaged(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 4000, (5, 6, 7)).astype(np.uint16)
    np.savez(tmp_path / "x.npz", lit=x, cycle=x[None], row=x[0, 0])
    np.testing.assert_allclose(mean_frame(f"{tmp_path}/x.npz:lit"), x.mean(axis=0), rtol=1e-6)
    for name in ("cycle", "row"):
        with pytest.raises(ConfigError, match=r"give one frame \(height, width\) or several"):
            mean_frame(f"{tmp_path}/x.npz:{name}")


def test_an_atlas_must_have_brain_and_its_landmarks_inside(tmp_path: Path) -> None:
    np.save(tmp_path / "empty.npy", np.zeros((5, 5)))
    with pytest.raises(ConfigError, match="not 0 on the brain"):
        read_atlas(str(tmp_path / "empty.npy"), (1, 1), (1, 4))
    np.save(tmp_path / "full.npy", np.ones((5, 5)))
    assert read_atlas(str(tmp_path / "full.npy"), (1, 1), (1, 4)).areas is None
    with pytest.raises(ConfigError, match="lambda at x 1, y 9 lies outside the atlas of 5 × 5 pixels"):
        read_atlas(str(tmp_path / "full.npy"), (1, 1), (1, 9))


def test_without_matplotlib_it_says_what_to_install(tmp_path: Path) -> None:
    frame, bregma, lambda_ = write_head(tmp_path)
    code = f"""
import sys
sys.modules["matplotlib"] = sys.modules["matplotlib.figure"] = None
from pathlib import Path
from streamscore.errors import ConfigError
from streamscore.registration import register_command
try:
    register_command({str(frame)!r}, {bregma!r}, {lambda_!r}, Path("a.json"), picture=Path("a.png"))
except ConfigError as error:
    print(error)
"""
    told = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "pip install 'streamscore[train]'" in told.stdout
    assert not (tmp_path / "a.json").exists()


@pytest.mark.skipif(not FRAMES.exists(), reason="needs the frames in ../shared")
def test_real_frames_are_registered(tmp_path: Path) -> None:
    register_command(f"{FRAMES}:cam_green", "62,56", "62.5,109", tmp_path / "mouse.json")
    step = affine.build(affine.Config(path=str(tmp_path / "mouse.json")), frames(1.0, 128, 128))
    with np.load(FRAMES) as archive:
        lit = archive["cam_green"][::2].astype(np.float32)
    got = step.push(lit[:5, None], 0)[:, 0]
    assert got[:, ATLAS.mask].mean() > 5 * got[:, ~ATLAS.mask].mean()
