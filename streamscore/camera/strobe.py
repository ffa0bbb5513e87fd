"""Under which light a frame was taken, and in which cycle of all lights.

Every frame gets a *position*, the number of frames that the camera took before it, whether they arrived or not. It
comes from the frame counter; without one from the tags, whose order tells the position within a cycle, and from
the device clock, which tells how many whole cycles were lost. The *phase* is a position at which the first light
flashed. It comes from the counter (where the rig file says what the counter was under the first light), from tags,
or from the brightness of frames, and is checked against every frame that says something about it. It is never
taken from the order of arrival.

On a contradiction the phase is taken from the new frame, and the cycle is given up. What the counter is under the
first light holds no longer once the counter began anew, or the device's clock or the brightness of frames says
that frames were lost which it did not count; from then on only tags and brightness can tell the phase. The numbers
of cycles ascend, and skip those that were given up or lost. In case of doubt a frame has no place, since a frame
in the wrong channel would not be noticed by anything that comes after.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from streamscore.camera.arrivals import Arrivals
from streamscore.camera.brightness import Brightness
from streamscore.camera.clock_check import ClockCheck
from streamscore.camera.complaints import Complaints
from streamscore.camera.config import CameraConfig
from streamscore.camera.counter import FrameCounter, Step
from streamscore.camera.frame import RawFrame
from streamscore.camera.senders import Senders
from streamscore.errors import StreamFormatError

_UNKNOWN = -1  #: the number of a light that is not among those of the rig file


class Place(NamedTuple):
    """Where a frame belongs: number of the cycle from 0, and number of the light."""

    cycle: int
    light: int


class Strobe:
    """Give each frame its place.

    Parameters
    ----------
    config
        See :class:`CameraConfig`.
    complaints
        Is told what was wrong with frames.

    Attributes
    ----------
    counts_cycles
        Whether numbers of cycles tell losses. False for one light without a counter: only stamps can tell then.
    device_clock
        Whether frames have a device time. Both are known after the first frame.
    stamp_s
        Of the last frame that has a position: by the device, or else its arrival.
    """

    #: Without a device clock, a silence this long counts the wraps of a counter.
    SILENCE_S = 1.0
    #: Tag and device clock contradict each other beyond this part of a frame.
    CLOCK_TOLERANCE_FRAMES = ClockCheck.TOLERANCE_FRAMES
    #: So many frames in a row must show the same phase where it is told by brightness, which can err.
    AGREEING_FRAMES = 3

    def __init__(self, config: CameraConfig, complaints: Complaints) -> None:
        self._config = config
        self._complaints = complaints
        self._senders = Senders(config.rate_hz)
        self._n_lights = n = len(config.lights)
        self._lights = {name: k for k, name in enumerate(config.lights)}
        self._confirm_frames = max(2 * n, 8)
        self._counter = FrameCounter(config.rate_hz, config.counter_bits, self._confirm_frames)
        self._brightness = Brightness([self._lights[name] for name in config.brightest_first or ()])
        self._last: RawFrame | None = None  # the last frame that has a position
        self._position = 0
        self._n_refused = 0
        self._phase: int | None = None  # position of some frame under the first light
        self._n_agreeing = 0
        self._begin = 0  # position of the first whole cycle of this phase
        self._origin = 0  # position at which cycle 0 began
        self._shift = 0  # number of the cycle that begins at the phase
        self._placed: Place | None = None  # the last place that was given
        self._has_counter = False
        self._first_light_holds = True
        self._lost_because = ""  # why there is no phase any more
        self._clock_check = ClockCheck(config.rate_hz)
        self._n_not_bright = 0  # frames in a row whose brightness contradicts the counter
        self._arrivals = Arrivals(config.rate_hz)
        self.stamp_s = math.nan
        self.counts_cycles = self.device_clock = False

    def check(self, frame: RawFrame) -> None:
        """Raise :class:`StreamFormatError` if nothing in frames like this one tells the light."""
        if self._n_lights == 1:
            return
        phase, lights = self._config.phase, ", ".join(self._config.lights)
        if phase == "counter" and frame.counter is None:
            raise StreamFormatError(
                "source.phase is counter, but frames carry no counter. Let the camera send one, or use phase: auto"
            )
        if phase == "tag" and frame.tag is None:
            raise StreamFormatError(
                f"source.phase is tag, but frames carry none. Let the camera send with each frame which of "
                f"{lights} was lit, or use phase: auto"
            )
        by_counter = frame.counter is not None and self._config.first_light is not None
        if phase == "auto" and frame.tag is None and not by_counter and not self._config.brightest_first:
            raise StreamFormatError(
                f"nothing tells which of {lights} was lit: frames carry no tag"
                + (", and no counter" if frame.counter is None else "")
                + ". Send tags; or send a frame counter and set first_light in the rig file (what the counter of "
                f"a frame under {self._config.lights[0]} leaves when divided by {self._n_lights}); or set "
                "brightest_first, the lights in the order of their brightness"
            )
        if phase in ("auto", "tag") and frame.tag is not None and self._tagged(frame.tag) is None:
            known = ", ".join(self._config.tags or self._config.lights)
            raise StreamFormatError(
                f"frames carry the tag {frame.tag!r}, known are {known}. Say in the rig file which light it "
                f"stands for, for example source: {{tags: {{{frame.tag}: {self._config.lights[0]}}}}}"
            )

    def place(self, frame: RawFrame) -> Place | None:
        """Return the place of a frame; ``None`` if it has none and must not be used.

        Places ascend, in cycles and within them, so that a cycle is whole when each light came once.
        """
        if self._last is None:
            self._has_counter = frame.counter is not None
            self.device_clock = math.isfinite(frame.device_s)
            self.counts_cycles = self._has_counter or self._n_lights > 1
        light = self._light(frame)
        if light == _UNKNOWN:
            return None
        step = self._step(frame, light)
        self._senders.add(dropped=step is None)
        if step is None:
            return None
        before, self._last = self._last, frame
        self._position += step.n_frames
        self.stamp_s = frame.device_s if self.device_clock else self._arrivals.stamp_s(self._position, frame)
        if step.new_run:
            self._begin_run(frame, is_first=before is None)
        elif step.n_frames > 1:
            self._complain("losses", f"{step.n_frames - 1} frames were lost")
        by_clock = before is None or step.new_run or self._clock_agrees(before, frame, step.n_frames, light)
        if self._phase is None:
            if light is None:
                if not self._by_brightness(frame):
                    self._complain(
                        "unplaced_frames", self._lost_because or "frames are dropped until one has a tag"
                    )
                return None
            self._set_phase(light)
        cycle, told = self._cycle_and_light()
        if not (self._brightness_agrees(frame, told) and by_clock):
            return None
        if light == told:
            self._n_agreeing += 1
        elif light is not None:
            names = self._config.lights
            self._complain("contradictions", f"a frame of {names[light]} came where {names[told]} was due")
            self._set_phase(light)
            return None
        if self._position < self._begin or (
            self._by_brightness(frame) and self._n_agreeing < self.AGREEING_FRAMES
        ):
            return None
        if self._senders.are_two:
            self._complain(
                "second_sender",
                "many frames are repeated or out of order, as if two cameras sent to one address; nothing is "
                "delivered until one remains. Give each camera an endpoint of its own",
            )
            return None
        self._placed = Place(cycle, told)
        return self._placed

    def _begin_run(self, frame: RawFrame, *, is_first: bool) -> None:
        """Take the phase from the counter if that may be, because what came before tells nothing."""
        self._phase = None
        self._clock_check.forget()
        if not is_first:
            self._complain("restarts", "the camera began to count anew")
            self._first_light_holds = self._config.lights_follow_counter
            if self._n_lights > 1 and not self._first_light_holds:
                self._lose_phase(
                    "the camera began to count anew (if its counter only wraps, set counter_bits; if the lights "
                    "begin anew with it, lights_follow_counter)"
                )
        by_counter = self._counted(frame)
        if by_counter is not None:
            self._set_phase(by_counter)

    def _lose_phase(self, why: str) -> None:
        """From now on only tags and brightness tell the lights."""
        self._phase = None
        self._first_light_holds = False
        self._n_not_bright = 0
        self._clock_check.forget()
        lost = f"it is not known any more under which light frames are taken: {why}"
        self._lost_because = (
            f"{lost}. Frames are dropped; send tags or set brightest_first (with phase: auto) in the rig file, "
            "and start the run anew"
        )
        if self._config.brightest_first and self._config.phase == "auto":
            self._complain("lost_phases", f"{lost}. It is found again by brightness")

    def _clock_agrees(self, before: RawFrame, frame: RawFrame, n_frames: int, light: int | None) -> bool:
        """Whether the device's clock passed as many frames as the counter, where nothing better tells the light.

        A frame that contradicts has no place; if contradiction lasts, the phase is lost.
        """
        if light is not None:
            self._clock_check.forget()  # what is counted is counted from here
        is_counted = self._n_lights > 1 and self._has_counter and self._phase is not None
        if not (is_counted and self.device_clock and math.isfinite(frame.device_s)):
            return not self._clock_check.n_contradicted
        text = self._clock_check.contradiction(before, frame, self._position, n_frames)
        if text:
            self._complain("clock_contradictions", f"{text}; such frames are dropped")
        if self._clock_check.is_lasting:
            self._lose_phase(text)
        return not text

    def _brightness_agrees(self, frame: RawFrame, told: int) -> bool:
        """Whether brightness does not contradict the counter, where it can be told.

        A frame that contradicts has no place; if some do in a row, the phase is lost.
        """
        checks = self._n_lights > 1 and self._config.phase == "auto" and self._config.brightest_first
        if not checks or frame.tag is not None or self._counted(frame) is None:
            return True
        seen = self._brightness.light(frame.data)
        if seen is None or seen == told:
            self._n_not_bright = self._n_not_bright if seen is None else 0
            return True
        names = self._config.lights
        text = f"a frame that is as bright as {names[seen]} came where the counter says {names[told]}"
        self._complain("brightness_contradictions", text)
        self._n_not_bright += 1
        if self._n_not_bright >= self.AGREEING_FRAMES:
            self._lose_phase(text)
        return False

    def _set_phase(self, light: int) -> None:
        """Begin anew: the frame at the present position is one of `light`."""
        self._phase = self._position - light
        self._begin = self._phase + (self._n_lights if light else 0)
        self._n_agreeing = 0
        if self._placed is None:
            self._origin, number = self._begin, 0
        else:  # on the clock, as far as positions tell, and never without a gap
            was_last_light = self._placed.light == self._n_lights - 1
            number = max(
                round((self._begin - self._origin) / self._n_lights), self._placed.cycle + 1 + was_last_light
            )
        self._shift = number - (self._begin - self._phase) // self._n_lights

    def _cycle_and_light(self) -> tuple[int, int]:
        assert self._phase is not None
        cycle, light = divmod(self._position - self._phase, self._n_lights)
        return cycle + self._shift, light

    def _light(self, frame: RawFrame) -> int | None:
        """Return what the frame itself tells: a light, nothing, or that it is of none that is known."""
        if self._by_brightness(frame):
            light = self._brightness.light(frame.data)
            if light is not None:
                return light
            if self._brightness.problem:
                self._complain("unclear_frames", f"the light of frames is not clear: {self._brightness.problem}")
            return None if self._has_counter else _UNKNOWN
        if self._config.phase in ("auto", "tag") and frame.tag is not None:
            if self._n_lights == 1 and self._config.tags is None:
                return 0
            light = self._tagged(frame.tag)
            if light is None:
                self._complain("unknown_tags", f"frames with the unknown tag {frame.tag!r} are dropped")
                return _UNKNOWN
            return light
        return 0 if self._n_lights == 1 else None

    def _by_brightness(self, frame: RawFrame) -> bool:
        """Whether brightness has to tell the light of a frame."""
        if self._n_lights == 1 or not self._config.brightest_first or self._config.phase in ("tag", "counter"):
            return False
        return self._config.phase == "intensity" or (frame.tag is None and self._counted(frame) is None)

    def _tagged(self, tag: str | int) -> int | None:
        name = str(tag) if self._config.tags is None else self._config.tags.get(str(tag), "")
        return self._lights.get(name)

    def _counted(self, frame: RawFrame) -> int | None:
        """Return the light that the counter itself tells."""
        if not self._first_light_holds or self._config.phase not in ("auto", "counter") or frame.counter is None:
            return None
        if self._config.first_light is None:
            return 0 if self._n_lights == 1 else None
        return (frame.counter - self._config.first_light) % self._n_lights

    def _step(self, frame: RawFrame, light: int | None) -> Step | None:
        """Return the way from the last frame to this one; ``None`` if it is none that leads ahead."""
        elapsed = self._elapsed_frames(frame)
        if not self._has_counter:
            step = self._step_by_clock(frame, light, elapsed)
        elif frame.counter is None or not self._counter.is_counter(frame.counter):
            step = "without a counter that can be true"
        else:
            step = self._counter.step(frame.counter, elapsed)
            period = self._counter.period
            if not isinstance(step, str) and period % self._n_lights and (elapsed or 0.0) > period / 2:
                step = step._replace(new_run=True)  # after a wrap too many the counter stands for another light
        if isinstance(step, str):
            self._complain(f"{step.replace(' ', '_')}_frames", f"frames that were {step} are dropped")
            return None
        return step

    def _step_by_clock(self, frame: RawFrame, light: int | None, elapsed: float | None) -> Step | str:
        """Place a frame that has no counter by its light, and by the device clock if there is one."""
        n = self._n_lights
        if n == 1 or self._last is None:
            return Step(1, new_run=self._last is None)
        if light is None:
            return "without a light"
        if not self.device_clock:
            return self._step_by_arrival(frame, light)
        if elapsed is not None and elapsed <= 0:
            self._n_refused += 1
            if self._n_refused < self._confirm_frames:
                return "repeated" if elapsed == 0 else "out of order"
            self._n_refused = 0
            return Step(self._confirm_frames, new_run=True)
        self._n_refused = 0
        if self._phase is None:
            return Step(max(round(elapsed or 1), 1))
        n_frames = self._frames_to(light)
        if elapsed is None:
            return Step(n_frames)
        n_frames += n * max(round((elapsed - n_frames) / n), 0)
        if abs(n_frames - elapsed) > self.CLOCK_TOLERANCE_FRAMES:
            return Step(max(round(elapsed), 1))
        return Step(n_frames)

    def _step_by_arrival(self, frame: RawFrame, light: int) -> Step | str:
        """Place a frame that has neither counter nor device time by its light, and by when it came."""
        n, rate_hz = self._n_lights, self._config.rate_hz
        n_frames = self._frames_to(light) if self._phase is not None else 1
        late_s = self._arrivals.error_s(self._position + n_frames, frame.received_s)
        if not frame.fresh or abs(late_s) <= Arrivals.TOLERANCE_S:
            self._n_refused = 0
        elif late_s > 0:
            self._n_refused = 0
            n_frames += n * round(late_s * rate_hz / n)
        else:  # what was taken for a loss was a delay: those that follow it are too many
            self._n_refused += 1
            if self._n_refused < rate_hz:
                return "late"
            self._n_refused = 0
        return Step(n_frames)

    def _frames_to(self, light: int) -> int:
        """Return how many frames there are at least from the last one to one under `light`."""
        return (light - self._cycle_and_light()[1] - 1) % self._n_lights + 1

    def _elapsed_frames(self, frame: RawFrame) -> float | None:
        """Return the time since the last frame in frames, where a clock tells it."""
        if self._last is None:
            return None
        elapsed_s = frame.device_s - self._last.device_s
        if not self.device_clock:
            elapsed_s = frame.received_s - self._last.received_s
            silence_s = self.SILENCE_S
            if self._counter.period % self._n_lights:
                silence_s = min(silence_s, self._counter.period / 2 / self._config.rate_hz)
            if not frame.fresh or elapsed_s < silence_s:
                return None
        if not abs(elapsed_s) <= FrameCounter.LONGEST_LOSS_S:
            return None  # not a number, or another clock
        return elapsed_s * self._config.rate_hz

    def _complain(self, cause: str, text: str) -> None:
        self._complaints.add(cause, "warning", text)
