"""The keys that tokens are verified with: from a secret, a PEM file or a JSON Web Key Set.

Each key carries the one algorithm that it may be used with, so a token's own header never chooses how it is verified.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt import PyJWK, PyJWTError
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from jwt.utils import base64url_encode

LEAST_SECRET_BYTES = 32
"""As many as HS256's digest has, which is what RFC 7518 (section 3.2) asks for."""
PUBLIC_ALGORITHMS = ("RS256", "ES256")
KEY_SET_SCHEMES = ("http", "https")
_MOST_FILE_BYTES = 256 * 1024


class UnusableKey(ValueError):
    """No token can be verified with this; ``str()`` says why and never quotes the key."""


def key_problems(secrets: Sequence[str], public_key: str, key_set: str) -> list[str]:
    """What is wrong with these settings of AUTH=jwt. Names variables, never what a secret is."""
    sources = {"JWT_SECRET": secrets, "JWT_PUBLIC_KEY": public_key, "JWT_JWKS": key_set}
    given = [name for name, source in sources.items() if source]
    if len(given) != 1:
        found = f"{' and '.join(given)} are" if given else "none is"
        return [f"{', '.join(sources)}: AUTH=jwt needs exactly one of them, but {found} set"]
    try:
        for secret in secrets:
            key_of_secret(secret)
        if public_key:
            key_in_pem_file(public_key)
        if is_address(key_set):
            _check_address(key_set)
        elif key_set:
            keys_in_file(key_set)
    except UnusableKey as error:
        return [f"{given[0]}: {error}"]
    return []


def is_address(place: str) -> bool:
    """Whether a key set is to be fetched from somewhere, and not read from a file."""
    return "://" in place


def _check_address(address: str) -> None:
    try:
        parts = urlsplit(address)
        usable = parts.scheme in KEY_SET_SCHEMES and bool(parts.hostname)
    except ValueError:
        usable = False
    if not usable:
        raise UnusableKey(f"must be a file or {' or '.join(f'{scheme}://…' for scheme in KEY_SET_SCHEMES)}")


def key_of_secret(secret: str) -> PyJWK:
    """The HS256 key of a shared secret. Raises UnusableKey for one that is too short."""
    octets = secret.encode()
    if len(octets) < LEAST_SECRET_BYTES:
        raise UnusableKey(f"must have at least {LEAST_SECRET_BYTES} bytes, but has {len(octets)}")
    return PyJWK({"kty": "oct", "k": base64url_encode(octets).decode()}, "HS256")


def key_in_pem_file(path: str) -> PyJWK:
    """The public key in a PEM file, RSA for RS256 or P-256 for ES256. Raises UnusableKey."""
    try:
        key = load_pem_public_key(_contents(path))
    except ValueError as error:
        raise UnusableKey(f"{path} holds no public key in PEM form") from error
    try:
        if isinstance(key, RSAPublicKey):
            return _usable(RSAAlgorithm.to_jwk(key, as_dict=True))
        if isinstance(key, EllipticCurvePublicKey):
            return _usable(ECAlgorithm.to_jwk(key, as_dict=True))
    except (UnusableKey, PyJWTError) as error:
        raise UnusableKey(f"{path}: the key is of no use: {error}") from error
    raise UnusableKey(f"{path}: the key must be RSA (for RS256) or on the curve P-256 (for ES256)")


def keys_in_file(path: str) -> dict[str | None, PyJWK]:
    """The usable keys of a JWKS file by key id. Raises UnusableKey."""
    try:
        document = json.loads(_contents(path))
    except (ValueError, RecursionError) as error:
        raise UnusableKey(f"{path} is not JSON") from error
    try:
        return keys_in_set(document)
    except UnusableKey as error:
        raise UnusableKey(f"{path} {error}") from error


def keys_in_set(document: Any) -> dict[str | None, PyJWK]:
    """The usable keys of a JSON Web Key Set (RFC 7517) by key id. Raises UnusableKey when there is none.

    Passed over are keys for encryption, for other algorithms, private and symmetric ones: in a document that others
    can read, a secret is none.
    """
    listed = document.get("keys") if isinstance(document, Mapping) else None
    found: dict[str | None, PyJWK] = {}
    for entry in listed if isinstance(listed, list) else ():
        try:
            key = _usable(entry)
        except UnusableKey:
            continue
        found[key.key_id] = key
    if not found:
        raise UnusableKey("is no JSON Web Key Set with a public key for RS256 or ES256")
    return found


def _usable(jwk: Any) -> PyJWK:
    """The key, if it is one that we verify with. Raises UnusableKey."""
    if not isinstance(jwk, dict) or "d" in jwk or not isinstance(jwk.get("kid"), str | None):
        raise UnusableKey("must be a public key")
    try:
        key = PyJWK(jwk)
    except (
        Exception
    ) as error:  # for a key that lacks members the library has a KeyError, for some a NotImplementedError
        raise UnusableKey("must be a well-formed key") from error
    if key.algorithm_name not in PUBLIC_ALGORITHMS or key.public_key_use not in ("sig", None):
        raise UnusableKey(f"must be for signatures with one of {', '.join(PUBLIC_ALGORITHMS)}")
    if key.algorithm_name == "ES256" and key.key.curve.name != "secp256r1":
        raise UnusableKey("must be on P-256 for ES256")
    if too_short := key.Algorithm.check_key_length(key.key):
        raise UnusableKey(too_short)
    return key


def _contents(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            contents = file.read(_MOST_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise UnusableKey(f"{path} cannot be read: {reason}") from error
    if len(contents) > _MOST_FILE_BYTES:
        raise UnusableKey(f"{path} is too large to be a key")
    return contents
