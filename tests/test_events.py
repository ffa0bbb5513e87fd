from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from pydantic import ValidationError

from streamscore import events
from tests.examples import EVENTS

SCHEMA_FILE = Path(__file__).parents[1] / "docs" / "events.schema.json"
KINDS = {event.type for event in EVENTS}
SCHEMA = events.json_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def ids(event: events.Event) -> str:
    return str(event.type)


def test_the_examples_show_every_kind() -> None:
    mapping = SCHEMA["discriminator"]["mapping"]
    assert set(mapping) == KINDS


def test_the_schema_in_docs_is_the_present_one() -> None:
    text = json.dumps(SCHEMA, indent=2) + "\n"
    assert SCHEMA_FILE.read_text(encoding="utf-8") == text, "run: streamscore schema > docs/events.schema.json"


def test_the_schema_is_a_valid_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("event", EVENTS, ids=ids)
def test_each_event_reads_back_the_same(event: events.Event) -> None:
    assert events.parse(event.model_dump_json()) == event


@pytest.mark.parametrize("event", EVENTS, ids=ids)
def test_each_event_fits_the_schema(event: events.Event) -> None:
    VALIDATOR.validate(json.loads(event.model_dump_json()))


@pytest.mark.parametrize("event", EVENTS, ids=ids)
def test_each_event_is_one_line_with_run_number_and_times(event: events.Event) -> None:
    text = event.model_dump_json()
    assert "\n" not in text
    assert {"version", "type", "run", "seq", "t_s", "wall_s"} <= set(json.loads(text))


@pytest.mark.parametrize("event", EVENTS, ids=ids)
@pytest.mark.parametrize("change", [{"colour": "red"}, {"seq": -1}, {"version": 2}, {"type": "nonsense"}])
def test_what_is_no_event_is_refused_by_reader_and_schema(event: events.Event, change: dict[str, object]) -> None:
    wrong = {**event.model_dump(), **change}
    with pytest.raises(ValidationError):
        events.parse(json.dumps(wrong))
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(wrong)


@pytest.mark.parametrize("event", EVENTS, ids=ids)
def test_a_missing_field_is_refused(event: events.Event) -> None:
    for name in set(event.model_dump()) - {"version", "type", "lane", "gate"}:
        partial = {key: value for key, value in event.model_dump().items() if key != name}
        with pytest.raises(ValidationError, match=name):
            events.parse(json.dumps(partial))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_an_event_holds_no_number_that_json_has_not(number: float) -> None:
    with pytest.raises(ValidationError):
        events.StopEvent(run="r1", seq=0, t_s=number, wall_s=0.0, reason="")


def test_an_event_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        EVENTS[0].seq = 5
