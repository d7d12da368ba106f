"""A certificate for 127.0.0.1 that vouches for itself, made when it is needed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.support.needs import lacking

__all__ = ["Certificate", "make_certificate", "require_openssl"]

_COMMAND = (
    *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
    *("-days", "2", "-subj", "/CN=lepton", "-addext", "subjectAltName=IP:127.0.0.1"),
)


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM."""

    chain: bytes
    """Also the authority to trust."""
    key: bytes


def make_certificate() -> Certificate:
    """Another one each time. `FileNotFoundError` without openssl."""
    with tempfile.TemporaryDirectory(prefix="lepton-certificate-") as folder:
        key, chain = Path(folder, "key.pem"), Path(folder, "chain.pem")
        command = ["openssl", *_COMMAND, "-keyout", str(key), "-out", str(chain)]
        subprocess.run(command, check=True, capture_output=True)
        return Certificate(chain.read_bytes(), key.read_bytes())


def require_openssl() -> None:
    """Where nothing can make certificates the test is skipped, in CI it fails."""
    if shutil.which("openssl") is None:
        lacking("no openssl to make a certificate with")
