"""Private keys of providers, for a simulated one: PEM files. For Telnyx a key is made when there is none."""

from __future__ import annotations

import os
from base64 import b64encode
from typing import TYPE_CHECKING, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from receiver.errors import ReceiverError

if TYPE_CHECKING:
    from pathlib import Path


class PrivateKey(NamedTuple):
    """A key that is the provider's own; for certificates, the URL of that of the key as well."""

    key: Ed25519PrivateKey | RSAPrivateKey
    certificate_url: str = ""


def read_key(path: Path) -> Ed25519PrivateKey | RSAPrivateKey:
    """Return the key of a PEM file. Raises ReceiverError."""
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise ReceiverError(f"cannot read {path}: {error.strerror}; give --private-key another file.") from None
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey | RSAPrivateKey):
        raise ReceiverError(f"{path} holds no private key of RSA or Ed25519 in PEM, without a password.")
    return key


def make_key(path: Path) -> Ed25519PrivateKey:
    """Make a key of Ed25519 and write it to a file of this user alone. Raises ReceiverError."""
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
    except OSError as error:
        raise ReceiverError(f"cannot write {path}: {error.strerror}; give --private-key another file.") from None
    return key


def public_key(key: Ed25519PrivateKey) -> str:
    """Return the public key as a project configures it: 32 bytes in Base64."""
    return b64encode(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()
