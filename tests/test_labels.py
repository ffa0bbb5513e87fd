from __future__ import annotations

import pytest

from streamscore.errors import ConfigError
from streamscore.labels import AASM5, UNKNOWN, VOCABULARIES, check_states, code_of, name_of, vocabulary


@pytest.mark.parametrize("name", VOCABULARIES)
def test_codes_and_names_are_each_others_inverse(name: str) -> None:
    labels = vocabulary(name)
    assert [name_of(code_of(label, labels), labels) for label in (*labels, UNKNOWN)] == [*labels, UNKNOWN]
    assert UNKNOWN not in labels
    assert len(set(labels)) == len(labels)


def test_the_order_of_aasm_is_the_order_of_the_papers() -> None:
    assert AASM5 == ("W", "N1", "N2", "N3", "REM")


def test_an_unknown_vocabulary_lists_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"'AASM'.*AASM5, RK6, MOUSE3, RUNREST"):
        vocabulary("AASM")


def test_an_unknown_state_lists_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"'N4'.*W, N1, N2, N3, REM"):
        code_of("N4", AASM5)
    with pytest.raises(ConfigError, match=r"'SWS', 'rem'.*W, N1, N2, N3, REM"):
        check_states(("REM", "rem", "SWS"), AASM5)
    assert check_states(("REM", "N3"), AASM5) == {"REM", "N3"}
