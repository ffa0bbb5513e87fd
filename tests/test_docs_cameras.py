"""The examples of docs/cameras.md work as they stand there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml

from streamscore.camera.wire import parse_header
from streamscore.clock import LslClock
from streamscore.config import plugin_config
from streamscore.sources.zmq_frames import Config, build

PAGE = (Path(__file__).parents[1] / "docs" / "cameras.md").read_text(encoding="utf-8")
ENDPOINT = "tcp://127.0.0.1:5590"


def block(language: str) -> str:
    """Return the first example in a language."""
    found = re.search(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert found, language
    return found[1]


def test_the_header_is_read() -> None:
    header = parse_header(block("json").encode())
    assert (header.shape, header.frame, header.channel) == ((512, 512), 17, "fluorescence_470")


def test_the_sender_is_short_and_its_frames_arrive(tmp_path: Path) -> None:
    code = block("python")
    assert len(code.strip().splitlines()) <= 20
    assert ENDPOINT in code
    section = yaml.safe_load(block("yaml"))["source"]
    config = plugin_config("sources", section)
    assert isinstance(config, Config)
    assert config.endpoint == ENDPOINT
    endpoint = f"ipc://{tmp_path}/f"
    source = build(config.model_copy(update={"endpoint": endpoint, "timeout_s": 60.0}), LslClock())
    sender = subprocess.Popen([sys.executable, "-c", code.replace(ENDPOINT, endpoint)])
    try:
        info = source.open(None)
        source.begin()
        chunk = None
        for _ in range(300):
            if (chunk := source.read(1.0)) is not None:
                break
    finally:
        sender.kill()
        sender.wait()
        source.close()
    assert (info.sfreq, info.frame_shape) == (67.2 / 4, (128, 128))
    assert info.channels == tuple(section["lights"])
    assert chunk is not None
    # Each light has a brightness of its own, so that a frame under another would be seen.
    np.testing.assert_allclose(chunk.data.mean(axis=(0, 2, 3)), 1000 * np.arange(1, 5), rtol=0.01)


def test_every_cause_of_refusal_is_on_the_page() -> None:
    source = (Path(__file__).parents[1] / "streamscore" / "camera" / "wire.py").read_text(encoding="utf-8")
    causes = set(re.findall(r'FrameError\(\s*"(\w+)"', source))
    assert causes >= {"parts", "header", "bytes", "dtype", "shape"}
    assert all(f"`{cause}`" in PAGE for cause in causes), json.dumps(sorted(causes))
