"""May the gateway speak to this URL? Looked at as text; nothing is resolved or opened."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

#: Names that only resolve inside: clear text to them stays on one's own network.
_INSIDE = (".local", ".localhost", ".internal", ".lan", ".home.arpa", ".svc", ".cluster.local", ".test")


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressFault:
    """What is wrong with a URL, and what to write."""

    message: str
    mend: str


def fault_of_address(url: str) -> AddressFault | None:
    """Why a target may not have this URL; None when it may.

    Clear text (`http:`) only to this machine, to private addresses and to names that resolve inside one's own network:
    prompts and credentials travel in it.
    """
    parts = _parts(url)
    if parts is None:
        return AddressFault(message="this is not a URL", mend="write it as in http://127.0.0.1:8001/v1")
    if parts.scheme not in ("http", "https"):
        return AddressFault(message="a URL begins with http:// or https://", mend=f"write https://{parts.netloc}…")
    if parts.username is not None or parts.password is not None:
        return AddressFault(message="a URL holds no user and no password", mend="use `credential: env:NAME`")
    if parts.query or parts.fragment or "?" in url or "#" in url:
        return AddressFault(message="a URL ends with its path", mend="remove everything from `?` or `#` on")
    return _fault_of_host(parts.scheme, (parts.hostname or "").lower().rstrip("."))


def _parts(url: str) -> SplitResult | None:
    """The URL's parts, or None when it is none: no host, a port out of range, a space within."""
    if not url.isascii() or any(character.isspace() or character in '<>"\\^`{|}' for character in url):
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    return parts if parts.hostname and port != 0 else None


def _fault_of_host(scheme: str, host: str) -> AddressFault | None:
    try:
        address = ip_address(host)
    except ValueError:
        inside = "." not in host or host.endswith(_INSIDE)
        if inside and host.replace(".", "").isdigit():
            return AddressFault(message=f"{host} is no complete address", mend="write all four numbers, or a name")
    else:
        if address.is_unspecified or address.is_multicast or address.is_link_local:
            return AddressFault(message=f"no target can be at {host}", mend="write the address where it listens")
        inside = address.is_private or address.is_loopback
    if scheme == "http" and not inside:
        message = f"{host} is outside, and http sends prompts and credentials there in clear text"
        return AddressFault(message=message, mend="write https://")
    return None
