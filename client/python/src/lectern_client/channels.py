"""How the channels of a client are made: targets, credentials, service config."""
from __future__ import annotations

import ipaddress
import json
import os
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import grpc

from .retries import ANY, Replicas

# "any": the serving replicas in turn, with gRPC's own retries. "one": one particular replica, without
# retries and without waiting for it if it is gone. "unchecked": also servers that report they are not
# serving.
Kind = Literal["any", "one", "unchecked"]

# Short, so that a replica that restarts is used again soon. The server accepts one ping every 30 s; a
# replica that hangs is noticed within 80 s.
_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.primary_user_agent", "lectern-client-python"),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # Uses this service config and ignores one from the name server.
    ("grpc.service_config_disable_resolution", 1),
]


def service_config(kind: Kind) -> str:
    """Returns the service config for channels of this kind: client/cpp/service_config.json, which is part
    of the wheel."""
    if kind == "unchecked":
        return "{}"
    packed = resources.files("lectern_client._proto").joinpath("service_config.json")
    config: dict[str, Any] = json.loads(packed.read_text(encoding="utf-8"))
    if kind == "one":
        for method in config["methodConfig"]:
            method.pop("retryPolicy", None)
            method.pop("waitForReady", None)
    return json.dumps(config)


@dataclass(frozen=True)
class Security:
    """TLS if `tls`, and the token sent with each call."""

    tls: bool
    ca: bytes | None
    cert: bytes | None
    key: bytes | None
    token: str | None
    server_name: str | None = None
    """The name in the server's certificate; None: the target's host."""


def read_security(tls: bool | None, tls_ca: str | os.PathLike[str] | None,
                  tls_cert: str | os.PathLike[str] | None, tls_key: str | os.PathLike[str] | None,
                  tls_server_name: str | None, token: str | None) -> Security:
    if (tls_cert is None) != (tls_key is None):
        raise ValueError("tls_cert and tls_key belong together")
    ca, cert, key = (None if path is None else Path(path).read_bytes()
                     for path in (tls_ca, tls_cert, tls_key))
    given = ca is not None or cert is not None or tls_server_name is not None
    if tls is False and given:
        raise ValueError("tls=False excludes the other tls_ arguments")
    if token is not None and not (token and all("!" <= character <= "~" for character in token)):
        raise ValueError("token must be visible ASCII characters, without spaces")
    return Security(given if tls is None else tls, ca, cert, key, token, tls_server_name)


def split_targets(target: str | Sequence[str]) -> list[str]:
    """One target, or the addresses of several replicas ("127.0.0.1:8001,127.0.0.1:8003")."""
    given = [target] if isinstance(target, str) else list(target)
    targets = [part.strip() for each in given for part in each.split(",")]
    if not targets or not all(targets):
        raise ValueError(f"not a target: {target!r}")
    return targets


def host_of(target: str) -> str:
    """The host of HOST:PORT or SCHEME:///HOST:PORT, without the brackets of an IPv6 address."""
    address = target.rsplit("/", 1)[-1]
    return urllib.parse.urlsplit(f"//{address}").hostname or address


def port_of(target: str) -> int:
    return urllib.parse.urlsplit(f"//{target.rsplit('/', 1)[-1]}").port or 443  # gRPC's default


def _ip_family(target: str) -> str | None:
    try:
        return f"ipv{ipaddress.ip_address(host_of(target)).version}"
    except ValueError:
        return None


def _is_loopback(target: str) -> bool:
    if target.startswith("unix:"):
        return True
    try:
        return ipaddress.ip_address(host_of(target)).is_loopback
    except ValueError:
        return host_of(target) == "localhost"


class Targets:
    """The servers of a client. `name` is a dns:/// target that resolves to several addresses, or None."""

    def __init__(self, target: str | Sequence[str], security: Security) -> None:
        targets = split_targets(target)
        if security.token is not None and not security.tls and not all(map(_is_loopback, targets)):
            raise ValueError("a token needs TLS: without it, it may only go to this machine")
        self.security = security
        self.fingerprints: dict[str, str] = {}  # of models, if known; "" is the default model
        alone = len(targets) == 1
        self.name = targets[0] if alone and targets[0].startswith("dns:///") else None
        # gRPC takes several addresses of one family as one target, but not several names.
        families = {_ip_family(each) for each in targets}
        joined = not alone and len(families) == 1 and None not in families
        self._any = f"{families.pop()}:{','.join(targets)}" if joined else targets[0]
        self.replicas = Replicas([] if alone else targets, any_works=alone or joined)

    def lane(self, replica: str) -> tuple[str, Kind]:
        """Returns gRPC's target and the kind of channel for `replica`."""
        return (self._any, "any") if replica == ANY else (replica, "one")

    def unchecked(self) -> tuple[str, Kind]:
        """Returns the same pair for calls that every server answers."""
        return self._any, "unchecked"

    def options(self, target: str, kind: Kind) -> list[tuple[str, Any]]:
        options = [*_OPTIONS, ("grpc.service_config", service_config(kind))]
        server_name = self.security.server_name
        if self.name is not None and target != self.name:
            # An address to which the name resolves: the certificate has the name.
            options.append(("grpc.default_authority", self.name.removeprefix("dns:///")))
            server_name = server_name or host_of(self.name)
        if self.security.tls and server_name is not None:
            options.append(("grpc.ssl_target_name_override", server_name))
        return options

    def credentials(self) -> grpc.ChannelCredentials | None:
        """None: plain text."""
        security = self.security
        if not security.tls:
            return None
        channel = grpc.ssl_channel_credentials(security.ca, security.key, security.cert)
        if security.token is None:
            return channel
        return grpc.composite_channel_credentials(
            channel, grpc.access_token_call_credentials(security.token))

    def token_metadata(self) -> list[tuple[str, str]]:
        """The token, if no credentials carry it: on plain text to this machine."""
        if self.security.tls or self.security.token is None:
            return []
        return [("authorization", f"Bearer {self.security.token}")]


