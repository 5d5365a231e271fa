"""Progress bars for uploads."""
from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from tqdm import tqdm

from .events import Progress, UploadEvent

ProgressOption = bool | Callable[[UploadEvent], None]
"""True: bars on stderr if it is a terminal; False: nothing; else it is called with each event."""

_LABELS = {"receiving": "sending", "queued": "waiting", "tokenizing": "tokenizing",
           "prefill": "reading"}


class Bars:
    """Shows one bar for each stage."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._stage = ""
        self._bar: Any = None

    def __call__(self, event: UploadEvent) -> None:
        if not isinstance(event, Progress):
            self.close()
            tqdm.write(f"trying again in {event.wait:.1f} s: {event.cause}", file=self._out)
            return
        if event.stage != self._stage or self._bar is None:
            self.close()
            self._stage = event.stage
            self._bar = tqdm(desc=_LABELS.get(event.stage, event.stage), unit=f" {event.unit}",
                             unit_scale=event.unit in ("bytes", "tokens"), file=self._out,
                             dynamic_ncols=True)
        self._bar.total = event.total or None
        self._bar.n = event.done
        self._bar.refresh()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = None


def _ignore(event: UploadEvent) -> None:
    del event


@contextlib.contextmanager
def observer(progress: ProgressOption) -> Iterator[Callable[[UploadEvent], None]]:
    """Returns the function that an upload's `progress` argument selects."""
    if callable(progress):
        yield progress
    elif progress and sys.stderr.isatty():
        with contextlib.closing(Bars(sys.stderr)) as bars:
            yield bars
    else:
        yield _ignore
