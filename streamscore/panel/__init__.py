"""The screen of a run, in a process of its own."""

from streamscore.panel.screen import watch
from streamscore.panel.state import PanelState

__all__ = ["PanelState", "watch"]
