"""Options that several commands take."""

from __future__ import annotations

from streamscore.errors import ConfigError


def parse_channels(pairs: list[str] | None) -> dict[str, str] | None:
    """Turn ``NAME=LABEL`` options into a mapping."""
    if not pairs:
        return None
    mapping = {}
    for pair in pairs:
        name, equals, label = pair.partition("=")
        if not equals or not name or not label:
            raise ConfigError(f"--channel {pair!r}: write INPUT=LABEL, for example --channel EEG=C3-A2")
        mapping[name] = label
    return mapping
