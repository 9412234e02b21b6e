"""A private certificate authority, and keys that sign database tokens."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

_PEM = serialization.Encoding.PEM


class Authority:
    """Signs one certificate for 127.0.0.1; `ca_file` is what a client must trust."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        authority = ec.generate_private_key(ec.SECP256R1())
        issuer = _name("Spool's test authority")
        self.ca_file = folder / "ca.pem"
        root = _certificate(issuer, issuer, authority.public_key(), ca=True).sign(authority, hashes.SHA256())
        self.ca_file.write_bytes(root.public_bytes(_PEM))
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = _certificate(_name("127.0.0.1"), issuer, key.public_key(), ca=False).sign(authority, hashes.SHA256())
        plain = serialization.NoEncryption()
        pair = folder / "server.pem"
        pair.write_bytes(
            key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, plain) + leaf.public_bytes(_PEM),
        )
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(pair)


class Tokens:
    """An Ed25519 key pair: `key_file` is for the server, `sign` makes what clients send."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._key = Ed25519PrivateKey.generate()
        self.key_file = folder / "jwt.pem"
        public = self._key.public_key()
        self.key_file.write_bytes(public.public_bytes(_PEM, serialization.PublicFormat.SubjectPublicKeyInfo))

    def sign(self, **claims: object) -> str:
        """A token; `a` is "rw" or "ro", `exp` the second of its end."""
        head = _encode({"alg": "EdDSA", "typ": "JWT"})
        body = _encode(claims)
        return f"{head}.{body}.{_base64(self._key.sign(f'{head}.{body}'.encode()))}"


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _certificate(subject, issuer, public_key, *, ca: bool) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if ca:
        return builder
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    return builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)


def _encode(part: dict[str, object]) -> str:
    return _base64(json.dumps(part).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
