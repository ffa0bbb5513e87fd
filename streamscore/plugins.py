"""Plug-ins by file name.

``kind: foo`` in a rig file or bundle is the file ``foo.py`` of the folder for that role. Nothing is
registered and nothing is imported before it is asked for, so a driver that is not installed disturbs nobody.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from streamscore.errors import ConfigError

#: Files of a plug-in folder that are not plug-ins.
SHARED_FILES = frozenset({"base", "layers"})


def kinds(folder: str) -> list[str]:
    """Names of the plug-ins in ``streamscore/<folder>``."""
    package = importlib.import_module(f"streamscore.{folder}")
    names = (module.name for module in pkgutil.iter_modules(package.__path__))
    return sorted(name for name in names if name not in SHARED_FILES and not name.startswith("_"))


def load(folder: str, kind: str) -> ModuleType:
    """Import the plug-in `kind` of `folder`.

    Raises
    ------
    ConfigError
        If there is no such file (lists the choices) or a library that it needs is not installed.
    """
    choices = kinds(folder)
    if kind not in choices:
        raise ConfigError(f"unknown {folder} kind {kind!r}; choose one of {', '.join(choices)}")
    try:
        return importlib.import_module(f"streamscore.{folder}.{kind}")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{folder} kind {kind!r} needs the package {error.name!r}, which is not installed; "
            f"run: pip install {error.name}"
        ) from error
