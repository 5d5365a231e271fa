"""Whether a failed call is made again, after which wait, and on which replica."""
from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import grpc

from .errors import LecternError
from .events import Retry

_UPLOADS_TO_ONE = 2
_MISSING = ("DOCUMENT_EVICTED", "DOCUMENT_NOT_FOUND")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When uploads and questions are tried again:

    * UNAVAILABLE: a replica drains, restarts or was lost; another one takes over.
    * UNKNOWN or INTERNAL without a reason: a proxy on the way broke the stream off.
    * CANCELLED by nobody here: the call reached a replica that was just shutting down.
    * RESOURCE_EXHAUSTED with a time to wait, only if `when_full` says so.
    * NOT_FOUND of a document whose `source` is known: after it was uploaded again.

    Waits grow from `first_wait` seconds, doubling up to `longest_wait`, with jitter; what a full server
    asks for is waited for in full. A wait that would pass the deadline is not begun: the call ends with
    the error that it had."""

    max_attempts: int = 5
    """Of one call, the first and those after an upload included; 1: never again."""
    when_full: bool = False
    first_wait: float = 0.2
    longest_wait: float = 5.0


def _broke_off_on_the_way(failed: LecternError) -> bool:
    """A proxy whose replica dies in the middle of a stream ends the stream without a status, or resets
    it. A server of ours gives its reason."""
    if failed.reason:
        return False
    return (failed.code is grpc.StatusCode.UNKNOWN
            or failed.code is grpc.StatusCode.INTERNAL and "RST_STREAM" in failed.message)


class Retries:
    """The attempts of one call. `deadline` is a time of time.monotonic()."""

    def __init__(self, policy: RetryPolicy, deadline: float | None, has_source: bool) -> None:
        self._policy = policy
        self._deadline = deadline
        self._has_source = has_source
        self.restart()

    def restart(self) -> None:
        """The call got on: what failed before does not count."""
        self._attempt = 1
        self._next_wait = self._policy.first_wait
        # A replica that does not have what it was just sent will hardly have it after a second time. But
        # behind a proxy the second question may reach another replica than the upload, when one has just
        # come or gone.
        self._uploads_to: Counter[str] = Counter()

    def uploaded(self, replica: str) -> None:
        """The document was sent to `replica`."""
        self._uploads_to[replica] += 1

    def needs_upload(self, failed: LecternError) -> bool:
        """A document that the server does not have, while its text is at hand."""
        return (self._has_source and failed.code is grpc.StatusCode.NOT_FOUND
                and failed.reason in _MISSING)

    def retryable(self, failed: LecternError) -> bool:
        """The policy alone: what kind of failure is tried again, whatever has happened so far."""
        if failed.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return self._policy.when_full and failed.details.retry_after is not None
        return (failed.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
                or self.needs_upload(failed) or _broke_off_on_the_way(failed))

    def again(self, failed: LecternError, replica: str) -> Retry | None:
        """How the call that `failed` on `replica` is to be made again; None: it is not."""
        if not self.retryable(failed) or self._attempt >= self._policy.max_attempts:
            return None
        uploads = self.needs_upload(failed)
        if uploads and self._uploads_to[replica] >= _UPLOADS_TO_ONE:
            return None
        wait = 0.0 if uploads else self._wait_after(failed)
        if self._deadline is not None and time.monotonic() + wait >= self._deadline:
            return None
        self._attempt += 1
        return Retry(failed, self._attempt, wait, uploads)

    def _wait_after(self, failed: LecternError) -> float:
        wait = self._next_wait
        self._next_wait = min(2 * wait, self._policy.longest_wait)
        # The jitter parts clients that failed together. What a full server asks for is the least; what
        # an unavailable one asks for concerns that replica, and the next attempt goes to another one.
        full = failed.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        asked = failed.details.retry_after or 0.0 if full else 0.0
        return asked + random.uniform(0.5, 1.0) * wait


ANY = ""
"""Whichever replica is serving."""
_LOOK_AWAY_SECONDS = 2.0


class Replicas:
    """The replicas of a service by address, taken in turn; those that failed just now are left out for
    a moment. Thread-safe. Without addresses there is one server, which is ANY.

    `any_works`: ANY reaches whichever replica comes back first, when all have failed."""

    def __init__(self, addresses: list[str], any_works: bool = True,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._addresses = addresses
        self._any_works = any_works
        self._failed: dict[str, float] = {}
        self._next = 0

    def replace(self, addresses: list[str]) -> None:
        """What the name of the service stands for now."""
        with self._lock:
            self._addresses = addresses

    def pick(self) -> str:
        """The replica for the next attempt: an address, or ANY."""
        with self._lock:
            picked = self._working()
            return picked or (ANY if self._any_works else self._turn())

    def pick_one(self) -> str:
        """The same, but always an address if there are several."""
        with self._lock:
            return self._working() or self._turn()

    def all_failed(self) -> bool:
        """No address is known to work; also when none is known at all."""
        with self._lock:
            now = self._clock()
            return all(self._failed.get(each, 0.0) > now for each in self._addresses)

    def failed(self, replica: str) -> None:
        """`replica` could not be reached or is shutting down."""
        with self._lock:
            now = self._clock()
            self._failed = {a: until for a, until in self._failed.items() if until > now}
            if replica != ANY:
                self._failed[replica] = now + _LOOK_AWAY_SECONDS

    def _turn(self) -> str:
        if not self._addresses:
            return ANY
        self._next += 1
        return self._addresses[self._next % len(self._addresses)]

    def _working(self) -> str | None:
        now = self._clock()
        for _ in self._addresses:
            address = self._turn()
            if self._failed.get(address, 0.0) <= now:
                return address
        return None
