"""How a camera and its lights are described in a rig file."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class CameraConfig(BaseModel):
    """What is common to all sources of frames; they inherit it for their own ``Config``.

    Parameters
    ----------
    rate_hz
        Frames per second of the camera, under all lights together.
    lights
        Names of the lights in the order in which they flash. An ordinary camera has one.
    tags
        What the camera sends with a frame → its light. ``None``: the tags are the names of the lights.
    phase
        What tells under which light a frame was taken. ``auto`` takes tags where frames have them, else the
        counter where `first_light` is known, else the brightness.
    first_light
        What the frame counter of a frame under the first light leaves when divided by the number of lights.
    brightest_first
        The lights in the order of the mean brightness of their frames. Enough to tell them apart where there is
        neither tag nor `first_light`, provided that no two are alike; otherwise a check of the counter.
    lights_follow_counter
        Whether the lights begin anew with the frame counter, so that `first_light` still holds after a restart of
        the camera. Otherwise tags or the brightness must tell the lights then.
    counter_bits
        After how many bits the frame counter wraps; ``None``: it does not.
    frame_shape
        ``(height, width)`` to which frames are reduced; ``None`` keeps their size.
    reduce
        How: ``bin`` averages blocks of whole pixels, ``area`` weights pixels with the area that they share.
    full_scale
        Pixel value at which the camera saturates, such as 4095 of one with 12 bits; ``None``: the largest value of
        an integer type.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rate_hz: float = Field(gt=0, allow_inf_nan=False)
    lights: tuple[str, ...] = Field(("frames",), min_length=1)
    tags: dict[str, str] | None = None
    phase: Literal["auto", "tag", "counter", "intensity"] = "auto"
    first_light: int | None = Field(None, ge=0)
    brightest_first: tuple[str, ...] | None = None
    lights_follow_counter: bool = False
    counter_bits: int | None = Field(None, ge=4, le=63)
    frame_shape: tuple[int, int] | None = None
    reduce: Literal["bin", "area"] = "bin"
    full_scale: float | None = Field(None, gt=0)

    @field_validator("tags", mode="before")
    @classmethod
    def _tags_are_texts(cls, tags: object) -> object:
        return {str(tag): light for tag, light in tags.items()} if isinstance(tags, dict) else tags

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        n = len(self.lights)
        names = ", ".join(self.lights)
        if len(set(self.lights)) < n:
            raise ValueError(f"lights: each needs a name of its own; they are {names}")
        if self.tags is not None and (missing := set(self.lights) ^ set(self.tags.values())):
            raise ValueError(
                f"tags must lead to each of the lights {names}, and to no other: {', '.join(missing)}"
            )
        if self.first_light is not None and self.first_light >= n:
            raise ValueError(f"first_light is {self.first_light}; with {n} lights it is 0 to {n - 1}")
        if self.lights_follow_counter and n > 1 and self.first_light is None:
            raise ValueError(
                "lights_follow_counter needs first_light, the counter of a frame under the first light"
            )
        if self.first_light is not None and self.counter_bits is not None and 2**self.counter_bits % n:
            raise ValueError(
                f"first_light cannot be used: 2^{self.counter_bits} is no multiple of {n} lights, so that the "
                "same counter stands for another light after each wrap; send tags, or set brightest_first"
            )
        if self.brightest_first is not None and sorted(self.brightest_first) != sorted(self.lights):
            raise ValueError(f"brightest_first must name each of the lights {names} once")
        if self.phase == "intensity" and self.brightest_first is None:
            raise ValueError("phase: intensity needs brightest_first, the lights in the order of their brightness")
        if self.phase == "counter" and n > 1 and self.first_light is None:
            raise ValueError(
                "phase: counter needs first_light, what the counter of a frame under the first light leaves when "
                "divided by the number of lights"
            )
        if self.frame_shape is not None and min(self.frame_shape) < 1:
            raise ValueError(f"frame_shape is {self.frame_shape}; height and width are at least 1")
        return self
