"""Write docs/networks.md: every network with its size, timing and cost on the machine that wrote it.

    python -m tools.networks_page

Names, sizes and timings are kept by tests/test_catalogue.py; times of a step are of one quiet machine.
"""

from __future__ import annotations

from pathlib import Path

import torch

from streamscore import catalogue
from tools.bench_report import host

PAGE = Path(__file__).parents[1] / "docs" / "networks.md"
THREADS = 2

INTRO = """\
# Networks

`streamscore models` lists them on your machine (`--json` for programs, a name for one of them). Each has a
page, and a rig file in `configs/networks/` with random weights, for timing and plumbing in monitor mode.
Parameters are trainable ones; *field* is what an output can depend on (∞: a carried state); *ahead* is the lag
of final outputs; *warm-up* is the input before the first final output. MACs are multiply-accumulates of one
step.

* **published**: the paper's window, exactly.
* **causal**: state carried, no look-ahead; has to be trained as such.
* **lookahead**: forward state carried, backward pass over the next `look_ahead_s`, chosen at run time; told
  provisionally at lag 0 and finally at the full lag.
* **sliding**: the paper's window moved by one epoch, read at any of its positions (`lags_epochs`).

**Device and precision** are keys of the rig file: `device: cpu|cuda|auto`, `precision: float32|bfloat16`. On a
GPU one step is captured as a CUDA graph with static buffers and pinned staging; if that fails, it runs eagerly
and a notice says why. bfloat16 tells at the start how far it is from float32. No GPU was at hand when this was
written: that path is written and tested only as far as a machine without one allows.

Trained weights: the bundles that ship (`streamscore bundles`), YASA's own classifiers (`bundle: yasa`), and
published ones that convert (`python -m offline.convert_roi_rnn`, `offline.convert_mvg_cnn`). To start a
training from ImageNet: `offline/imagenet_vgg16.py`, `offline/imagenet_efficientnet.py`.
"""


def page() -> str:
    """The text of the page, measured now."""
    lines = [
        INTRO,
        "| network | input | classes | parameters | MACs | step | field | ahead | warm-up | ms a step |",
    ]
    lines.append("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    entries = [catalogue.describe(*chosen, measure=True) for chosen in catalogue.choose(None)]
    lines += [catalogue.markdown_row(entry) for entry in entries]
    found = host()
    lines += [
        "",
        f"Times: median of single steps on {THREADS} CPU threads, "
        + ", ".join(f"{key} {found[key]}" for key in ("made", "on", "cores", "torch"))
        + ". Tails and comparisons are in [benchmarks-networks.md](benchmarks-networks.md).",
        "",
        "## Publications",
        "",
        "Figures are the papers', not ours.",
        "",
    ]
    for entry in {entry.kind: entry for entry in reversed(entries)}.values():
        page_name = "bands" if entry.kind.startswith("band_") else entry.kind
        lines.append(f"* [{entry.title}](networks/{page_name}.md): {entry.source}")
        lines += [f"    * {figure}" for figure in entry.published]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    torch.set_num_threads(THREADS)
    PAGE.write_text(page(), encoding="utf-8")
