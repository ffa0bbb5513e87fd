"""Figures of an evaluation, each from a list of :class:`offline.scored.Scored`; an idea is a file."""
