"""Decides whether a failed call is repeated, after which wait, and on which replica."""
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
    """Limits the retries of uploads and questions, which retry these failures:

    * UNAVAILABLE: a replica drains, restarts or is gone; another one takes over.
    * UNKNOWN or INTERNAL without a reason: a proxy's stream broke off.
    * CANCELLED, not by the caller: the replica was shutting down.
    * RESOURCE_EXHAUSTED with a time to wait, only with `when_full`.
    * NOT_FOUND for a document whose `source` is known: after uploading it again.

    Waits start at `first_wait` seconds and double up to `longest_wait`, with jitter; a wait that a full
    server requests is kept in full. If a wait would pass the deadline, the call fails at once with the
    error that it had."""

    max_attempts: int = 5
    """Attempts of one call, including the first and those after an upload; 1: no retries."""
    when_full: bool = False
    first_wait: float = 0.2
    longest_wait: float = 5.0


def _broke_off_on_the_way(failed: LecternError) -> bool:
    """Whether a proxy ended the stream without a status, or reset it, because its replica died. A Lectern
    server always gives a reason."""
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
        """Forgets earlier failures, because the call makes progress."""
        self._attempt = 1
        self._next_wait = self._policy.first_wait
        # A replica that lacks a document it was just sent is unlikely to keep it the second time. Behind a
        # proxy, however, the question may reach another replica than the upload if one has just joined
        # or left.
        self._uploads_to: Counter[str] = Counter()

    def uploaded(self, replica: str) -> None:
        """Records that the document was sent to `replica`."""
        self._uploads_to[replica] += 1

    def needs_upload(self, failed: LecternError) -> bool:
        """Whether the server lacks the document and its text is available."""
        return (self._has_source and failed.code is grpc.StatusCode.NOT_FOUND
                and failed.reason in _MISSING)

    def retryable(self, failed: LecternError) -> bool:
        """Whether the policy allows a retry after this failure, regardless of earlier attempts."""
        if failed.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return self._policy.when_full and failed.details.retry_after is not None
        return (failed.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
                or self.needs_upload(failed) or _broke_off_on_the_way(failed))

    def again(self, failed: LecternError, replica: str) -> Retry | None:
        """Returns how to repeat the call that `failed` on `replica`; None: do not repeat it."""
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
        # Jitter separates clients that failed together. The wait requested by a full server is a minimum;
        # one requested by an unavailable server is ignored: the next attempt goes to another replica.
        full = failed.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        asked = failed.details.retry_after or 0.0 if full else 0.0
        return asked + random.uniform(0.5, 1.0) * wait


ANY = ""
"""Any replica that is serving."""
_LOOK_AWAY_SECONDS = 2.0


class Replicas:
    """The replicas of a service by address, taken in turn; those that have just failed are left out for
    a moment. Thread-safe. Without addresses there is one server, which is ANY.

    `any_works`: if all have failed, ANY reaches the replica that comes back first."""

    def __init__(self, addresses: list[str], any_works: bool = True,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._addresses = addresses
        self._any_works = any_works
        self._failed: dict[str, float] = {}
        self._next = 0

    def replace(self, addresses: list[str]) -> None:
        """Sets the addresses to which the service's name resolves now."""
        with self._lock:
            self._addresses = addresses

    def pick(self) -> str:
        """Returns the replica for the next attempt: an address, or ANY."""
        with self._lock:
            picked = self._working()
            return picked or (ANY if self._any_works else self._turn())

    def pick_one(self) -> str:
        """Like pick(), but always an address if there are several."""
        with self._lock:
            return self._working() or self._turn()

    def all_failed(self) -> bool:
        """Whether no address is known to work, or none is known at all."""
        with self._lock:
            now = self._clock()
            return all(self._failed.get(each, 0.0) > now for each in self._addresses)

    def failed(self, replica: str) -> None:
        """Records that `replica` could not be reached or is shutting down."""
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
