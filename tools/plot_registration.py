"""Draw the overlay of a registration: ``python -m tools.plot_registration [folder]``.

Writes ``registration.png``, by default to ``docs/images``: what ``streamscore register`` shows for a simulated
mouse whose head is turned and moved in the picture.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from streamscore.atlas import drawn_atlas
from streamscore.registration import register
from streamscore.registration_picture import draw_overlay
from streamscore.simulate.cortex import ONE_LIGHT, Cortex

DEFAULT_FOLDER = Path(__file__).parents[1] / "docs" / "images"
FRAME_SHAPE = (160, 200)
N_FRAMES = 16


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=DEFAULT_FOLDER)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    mouse = Cortex(seed=6, lights=ONE_LIGHT, frame_shape=FRAME_SHAPE, tilt_deg=12.0, offset_mm=(0.5, 0.1))
    atlas = drawn_atlas()
    pairs = {name: ((x, y), atlas.landmarks[name]) for name, (y, x) in mouse.landmarks_px.items()}
    frame = mouse.read(N_FRAMES).frames[:, 0].mean(axis=0)
    draw_overlay(frame, register(pairs, FRAME_SHAPE, atlas), atlas, folder / "registration.png")


if __name__ == "__main__":
    main()
