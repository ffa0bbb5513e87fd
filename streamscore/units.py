"""One spelling for each unit of voltage.

Amplifiers, EDF headers and LSL descriptions write the same unit as ``uV``, ``µV`` (micro sign), ``μV``
(Greek mu), ``microvolts`` … A bundle refuses a rig whose unit differs, so all of them must read alike.
"""

from __future__ import annotations

import re

_MICRO = str.maketrans({"\N{MICRO SIGN}": "u", "\N{GREEK SMALL LETTER MU}": "u"})
_PREFIXES = {"": "", "milli": "m", "micro": "u", "nano": "n", "m": "m", "u": "u", "n": "n"}
_VOLTS = re.compile(r"(?P<prefix>|milli|micro|nano|m|u|n)(?:v|volts?)", re.IGNORECASE)


def normalise_unit(text: str | None) -> str:
    """Return `text` in streamscore's spelling.

    Voltages become ``"V"``, ``"mV"``, ``"uV"`` or ``"nV"`` (no amplifier speaks of megavolts, so case
    does not matter); any other unit is stripped of blanks and otherwise kept; ``None`` gives ``""``.
    """
    unit = (text or "").replace("\0", "").strip().translate(_MICRO)
    match = _VOLTS.fullmatch(unit)
    return _PREFIXES[match["prefix"].lower()] + "V" if match else unit
