"""Streams, events and graphs of the emulated GPU.

What is put on a stream that does not wait for the null stream is kept back until somebody waits for it: a
program that reads a result too early, or overwrites memory that a copy still needs, gets wrong numbers here
too. While a graph is captured nothing is done, and what CUDA or CuPy would refuse is refused.
"""

from __future__ import annotations

import itertools
import time
import weakref
from collections.abc import Callable
from typing import Any, ClassVar

Action = Callable[[], None]


class CUDARuntimeError(RuntimeError):
    """Stands in for ``cupy.cuda.runtime.CUDARuntimeError``."""


class Stream:
    """Stands in for ``cupy.cuda.Stream``."""

    null: Stream
    _numbers = itertools.count(1)
    _all: ClassVar[weakref.WeakSet[Stream]] = weakref.WeakSet()
    _entered: ClassVar[list[Stream]] = []

    def __init__(self, null: bool = False, non_blocking: bool = False, **keywords: Any) -> None:
        self.ptr = 0 if null else next(self._numbers)
        self.device_id = 0
        self.is_non_blocking = non_blocking
        self._kept: list[Action] = []
        self._captured: list[Action] | None = None
        self._broken = ""
        self._all.add(self)

    def __enter__(self) -> Stream:
        self._entered.append(self)
        return self

    def __exit__(self, *error: Any) -> None:
        self._entered.pop()

    def put(self, action: Action) -> None:
        """Do something in the order of the stream."""
        if self._captured is not None:
            self._captured.append(action)
        elif self.is_non_blocking:
            self._kept.append(action)
        else:
            action()

    def finish(self) -> None:
        """Do what was kept back."""
        kept, self._kept = self._kept, []
        for action in kept:
            action()

    def refuse(self, what: str) -> None:
        """Break off a capture, if there is one, by something that a graph cannot hold."""
        if self._captured is not None:
            self._broken = what
            raise CUDARuntimeError(f"cudaErrorStreamCaptureUnsupported: {what} while the stream is capturing")

    def synchronize(self) -> None:
        """Wait."""
        self.refuse("synchronize")
        self.finish()

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        self.refuse("done")
        return not self._kept

    def record(self, event: Event | None = None) -> Event:
        """An event that is reached when all that was put on the stream is done."""
        event = event or Event()
        event.stream = self
        return event

    def wait_event(self, event: Event) -> None:
        """Go on when the event is reached."""
        if event.stream is not self:
            event.synchronize()

    def begin_capture(self, mode: int | None = None) -> None:
        """Collect what is put on the stream instead of doing it."""
        if self.ptr == 0:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        self.finish()
        self._captured, self._broken = [], ""

    def end_capture(self) -> Graph:
        """What was collected."""
        if self._captured is None:
            raise CUDARuntimeError("cudaErrorIllegalState: the stream is not capturing")
        captured, self._captured = self._captured, None
        if self._broken:
            raise CUDARuntimeError(f"cudaErrorStreamCaptureInvalidated: by {self._broken}")
        return Graph(captured)

    def is_capturing(self) -> bool:
        """Whether what is put on the stream is collected."""
        return self._captured is not None


class Event:
    """Stands in for ``cupy.cuda.Event``."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        self.stream: Stream | None = None
        self.moment: float | None = None

    def record(self, stream: Stream | None = None) -> None:
        """See `Stream.record`."""
        self.moment = time.perf_counter()
        (stream or current_stream()).record(self)

    def synchronize(self) -> None:
        """Wait: for all of the stream, which is later than need be, and not for what comes afterwards."""
        if self.stream is not None:
            self.stream.synchronize()


class Graph:
    """Stands in for ``cupy.cuda.Graph``."""

    launches = 0

    def __init__(self, actions: list[Action]) -> None:
        self.actions = actions

    def launch(self, stream: Stream | None = None) -> None:
        """Do all of it once more."""
        Graph.launches += 1
        for action in self.actions:
            (stream or current_stream()).put(action)

    def upload(self, stream: Stream | None = None) -> None:
        """Nothing: it is there."""


def current_stream(device: int = -1) -> Stream:
    """The stream that was entered last, else the null stream."""
    return Stream._entered[-1] if Stream._entered else Stream.null


def finish_all() -> None:
    """Wait for the whole device."""
    for stream in list(Stream._all):
        stream.synchronize()


def forget() -> None:
    """Begin anew: as if no stream had been made."""
    Stream._entered.clear()
    Stream._all.clear()
    Stream.null = Stream(null=True)
    Graph.launches = 0


forget()
