"""What made a result: command, date, commit, machine and versions."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch


def provenance(module: str) -> dict[str, Any]:
    """When, where and by which command a result was made; `module` is one of ours, or the command line itself."""
    ran = "streamscore" if module == "streamscore" else f"python -m {module}"
    here = Path(__file__).parent
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
    cpuinfo = Path("/proc/cpuinfo")  # Linux only; platform.processor() is empty there
    rows = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [row.split(":")[1].strip() for row in rows if row.startswith("model name")]
    cpu = names[0] if names else platform.processor()
    return {
        "command": f"{ran} {shlex.join(sys.argv[1:])}",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "git_commit": git.stdout.strip() or "unknown",
        "machine": f"{os.cpu_count()} × {cpu}, {torch.get_num_threads()} threads used",
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    }
