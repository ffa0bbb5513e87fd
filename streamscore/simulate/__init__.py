"""Simulated sleepers and mice with their true states: the test double that ships with the package."""

from streamscore.simulate.simulator import Simulator, simulate

__all__ = ["Simulator", "simulate"]
