"""Certificates for tests: an authority of our own, and what it signed. Nobody else trusts any of them.

Made once with openssl, good until 2126: `good` names 127.0.0.1 and localhost, `othername` another host, `expired`
ended in 2021, `selfsigned` is signed by nobody. Each file but the authority's holds its key too.
"""

from __future__ import annotations

import ssl
from pathlib import Path

_HERE = Path(__file__).parent / "providers" / "certificates"

ROOTS_FILE = _HERE / "ca.pem"


def serving(name: str) -> ssl.SSLContext:
    """What a server needs to show this certificate."""
    shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    show(shown, name)
    return shown


def show(shown: ssl.SSLContext, name: str) -> None:
    """From now on a server shows this one, as after a renewal."""
    shown.load_cert_chain(_HERE / f"{name}.pem")
