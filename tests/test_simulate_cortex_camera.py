"""The drawing of the simulated cortex, and what its camera makes of activity and blood."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import shift

from streamscore.simulate.cortex import FOUR_LIGHTS, ONE_LIGHT, TWO_LIGHTS, Cortex
from streamscore.simulate.cortex_activity import Traces
from streamscore.simulate.cortex_camera import BLEACHED, DARK_COUNTS, FULL_WELL_E, LIGHTS, READ_NOISE_E, Camera
from streamscore.simulate.cortex_map import AREAS, BREGMA_MM, LAMBDA_MM, CortexMap, patches_mm
from streamscore.types import FloatArray, TimeArray

PLACES = patches_mm()
N_TRACES = 2 * len(AREAS) + len(PLACES)


def camera(lights: tuple[str, ...], shape: tuple[int, int] = (64, 64), bits: int = 16) -> Camera:
    return Camera(1, CortexMap(shape), PLACES, lights, bits)


def quiet(n_frames: int, *, dff: float = 0.0, hbo_um: float = 0.0, hbr_um: float = 0.0) -> Traces:
    """The same everywhere and all the time; patches alone, whose weights add up to 1 at every pixel."""
    patches = np.r_[np.zeros(2 * len(AREAS)), np.ones(len(PLACES))]
    rows = np.tile(patches, (n_frames, 1)).astype(np.float32)
    blood = np.concatenate([rows, np.zeros((n_frames, 1), np.float32)], axis=1)
    return Traces(dff * rows, hbo_um * blood, hbr_um * blood)


def brightness(eye: Camera, traces: Traces, t_s: float = 0.0) -> TimeArray:
    """Mean counts above dark of the brain under each light."""
    n = len(traces.neural)
    frames, _ = eye.render(traces, np.full(n, t_s), np.zeros((n, 2)))
    mask = CortexMap((64, 64)).mask
    means: TimeArray = (frames.astype(np.float64) - eye.dark_frame)[..., mask].mean(axis=(0, 2))
    return means


# --- the drawing


@pytest.mark.parametrize("shape", [(128, 128), (64, 96), (200, 150)])
def test_every_area_has_its_place_in_both_hemispheres(shape: tuple[int, int]) -> None:
    drawing = CortexMap(shape)
    assert set(np.unique(drawing.areas)) == set(range(1 + len(drawing.area_names)))
    assert drawing.mask[drawing.areas > 0].all()
    mirrored = drawing.areas[:, ::-1]
    np.testing.assert_array_equal(drawing.mask, drawing.mask[:, ::-1])
    left = (drawing.areas > 0) & (drawing.areas <= len(AREAS))
    np.testing.assert_array_equal(drawing.areas[left] + len(AREAS), mirrored[left])
    mm2 = drawing.mask.sum() * drawing.mm_per_px**2
    assert 50 < mm2 < 62


def test_the_head_can_lie_askew() -> None:
    straight, askew = CortexMap((128, 128)), CortexMap((128, 128), tilt_deg=12.0, offset_mm=(0.4, -0.3))
    for x_mm, y_mm in [(2.3, -3.5), (-1.5, 1.5), (1.5, -0.6)]:
        label = straight.areas[tuple(np.rint(straight.pixel_of(x_mm, y_mm)).astype(int))]
        assert askew.areas[tuple(np.rint(askew.pixel_of(x_mm, y_mm)).astype(int))] == label > 0
    (top, left), (bottom, right) = (askew.landmarks_px[name] for name in ("bregma", "lambda"))
    span_px = np.hypot(BREGMA_MM[0] - LAMBDA_MM[0], BREGMA_MM[1] - LAMBDA_MM[1]) / askew.mm_per_px
    assert np.hypot(top - bottom, left - right) == pytest.approx(span_px)
    # Clockwise: what was in front is now to the right.
    assert np.degrees(np.arctan2(left - right, bottom - top)) == pytest.approx(12.0)


def test_weights_of_patches_add_up_to_one_on_the_brain() -> None:
    drawing = CortexMap((64, 64))
    total = drawing.patch_maps(PLACES).sum(axis=0)
    np.testing.assert_allclose(total[drawing.mask], 1.0, rtol=1e-4)
    assert not total[~drawing.mask].any()


# --- light and blood


def test_activity_shows_in_fluorescence_alone() -> None:
    eye = camera((*FOUR_LIGHTS, "reference_405"))
    change = brightness(eye, quiet(40, dff=0.05)) / brightness(eye, quiet(40)) - 1
    np.testing.assert_allclose(change, [0.05, 0, 0, 0, -0.001], atol=4e-4)


@pytest.mark.parametrize("light", LIGHTS)
def test_blood_dims_by_beer_and_lambert(light: str) -> None:
    eye = camera((light,))
    per_hbo, per_hbr = LIGHTS[light].attenuation_per_um
    change = brightness(eye, quiet(20, hbo_um=8.0, hbr_um=-3.0)) / brightness(eye, quiet(20))
    np.testing.assert_allclose(np.log(change), -8.0 * per_hbo + 3.0 * per_hbr, atol=5e-4)


def test_more_blood_flow_dims_green_and_blue_and_brightens_red() -> None:
    loss = {
        name: 8.0 * light.attenuation_per_um[0] - 3.0 * light.attenuation_per_um[1]
        for name, light in LIGHTS.items()
    }
    for name in ("fluorescence_470", "reference_405", "reflectance_523"):
        assert 0.01 < loss[name] < 0.03
    assert loss["reflectance_640"] < -0.005


def test_blood_follows_activity_and_the_ratio_with_green_undoes_it() -> None:
    cortex = Cortex(seed=2, frame_shape=(32, 32), sleeps=False, clean=True)
    movie = cortex.read(round(150 * 16.8))
    assert movie.clean is not None
    limb = np.isin(cortex.areas, [1 + k for k, name in enumerate(cortex.area_names) if name[:2] == "HL"])
    truth = movie.clean[:, limb].mean(axis=1)
    light = (movie.frames.astype(np.float32) - cortex.dark_frame)[:, :, limb].mean(axis=2)
    light /= light.mean(axis=0)

    def agreement(x: FloatArray, lag: int = 0) -> float:
        """Correlation of the means of half seconds with the truth `lag` of them before."""
        a, b = (y[: len(y) // 8 * 8].reshape(-1, 8).mean(axis=1) for y in (truth, x))
        return float(np.corrcoef(a[: len(a) - lag], b[lag:])[0, 1])

    assert agreement(light[:, 1], 2) < -0.4
    assert agreement(light[:, 3], 3) > 0.4
    assert agreement(light[:, 0] / light[:, 1]) > agreement(light[:, 0]) + 0.1
    assert agreement(light[:, 0] / light[:, 1]) > 0.75


def test_fluorescence_bleaches_and_reflectance_does_not() -> None:
    eye = camera(("fluorescence_470", "reflectance_523", "reference_405"))
    kept = brightness(eye, quiet(30), t_s=20_000.0) / brightness(eye, quiet(30))
    np.testing.assert_allclose(kept, [1 - BLEACHED, 1.0, 1 - BLEACHED], atol=2e-3)


# --- the camera


def test_the_dark_level_and_its_pattern() -> None:
    cortex = Cortex(frame_shape=(64, 64))
    assert cortex.dark_frame.mean() == pytest.approx(DARK_COUNTS, abs=2)
    assert 1.0 < cortex.dark_frame.std() < 5.0
    eye = camera(TWO_LIGHTS)
    # A loss of this much leaves no light where there is brain.
    frames, _ = eye.render(quiet(400, hbo_um=1e4), np.zeros(400), np.zeros((400, 2)))
    mask = CortexMap((64, 64)).mask
    np.testing.assert_allclose(frames[:, 0].mean(axis=0)[mask], eye.dark_frame[mask], atol=2.5)


def test_noise_is_that_of_counted_photons() -> None:
    eye = camera(ONE_LIGHT)
    frames, _ = eye.render(quiet(600), np.zeros(600), np.zeros((600, 2)))
    mean = (frames.mean(axis=0) - eye.dark_frame).ravel()
    slope, offset = np.polyfit(mean, frames.var(axis=0).ravel(), 1)
    electrons_per_count = FULL_WELL_E / 65535
    assert slope == pytest.approx(1 / electrons_per_count, rel=0.03)
    assert offset == pytest.approx((READ_NOISE_E / electrons_per_count) ** 2, abs=150)


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_counts_fit_into_the_bits(bits: int) -> None:
    frames = Cortex(frame_shape=(32, 32), bits=bits).read(4).frames
    assert 0.3 < (frames.max() - DARK_COUNTS) / (2**bits - 1) < 0.85


@pytest.mark.parametrize("move_px", [(0.5, 0.0), (-0.3, 0.4), (0.0, -0.6)])
def test_the_head_moves_by_fractions_of_a_pixel(move_px: tuple[float, float]) -> None:
    drawing = CortexMap((128, 128))
    eye = Camera(1, drawing, PLACES, ("reflectance_595",), 16)
    moved_mm = np.tile(np.array(move_px) * drawing.mm_per_px, (150, 1))
    still, _ = eye.render(quiet(150), np.zeros(150), np.zeros((150, 2)))
    moved, _ = eye.render(quiet(150), np.zeros(150), moved_mm)
    wanted = shift(eye.still[0], move_px, order=3, mode="nearest")
    inner = (slice(4, -4), slice(4, -4))
    difference = (moved.mean(axis=0) - still.mean(axis=0))[0][inner]
    expected = (wanted - eye.still[0])[inner]
    assert np.corrcoef(difference.ravel(), expected.ravel())[0, 1] > 0.97
    assert difference.std() == pytest.approx(expected.std(), rel=0.15)


def test_it_moves_more_when_it_runs() -> None:
    cortex = Cortex(seed=1, lights=("reflectance_523",), frame_shape=(64, 64), sleeps=False)
    movie = cortex.read(round(120 * 16.8))
    edge = cortex.mask ^ np.roll(cortex.mask, 2, axis=0)
    rim = movie.frames[:, 0, edge].astype(np.float32)
    jitter = np.abs(np.diff(rim, axis=0)).mean(axis=1)
    runs, rests = movie.running[1:] == 1, movie.running[1:] == 0
    assert jitter[runs].mean() > 1.3 * jitter[rests].mean()
