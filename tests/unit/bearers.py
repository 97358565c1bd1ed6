"""Keys and tokens for tests: what a good token looks like, and every way in which one can be bad."""

from __future__ import annotations

import base64
import hmac
import json
import time
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from engine.token_keys import key_of_secret
from web.key_sources import FixedKeys
from web.tokens import Authenticator

SECRET = "the-first-secret-which-is-long-enough-for-every-algorithm-there-is"
OTHER_SECRET = "the-other-secret-which-is-long-enough-for-every-algorithm-there-is"
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@cache
def rsa_key(name: str = "first", bits: int = 2048) -> rsa.RSAPrivateKey:
    """An RSA key pair."""
    return rsa.generate_private_key(65537, bits)


@cache
def ec_key(name: str = "first", curve: type[ec.EllipticCurve] = ec.SECP256R1) -> ec.EllipticCurvePrivateKey:
    """A key pair on a curve."""
    return ec.generate_private_key(curve())


def public_pem(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def private_pem(key: PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_jwk(key: PrivateKey, **members: str) -> dict[str, Any]:
    """The public half as an entry of a JSON Web Key Set."""
    jwk: dict[str, Any]
    if isinstance(key, rsa.RSAPrivateKey):
        jwk = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        jwk = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**jwk, **members}


def token(
    sub: Any = "7",
    *,
    key: Any = SECRET,
    algorithm: str = "HS256",
    expires_in: float = 600,
    kid: str | None = None,
    **claims: Any,
) -> str:
    """A token; what is wrong with it is up to the caller. A claim of None is left out."""
    everything = {"sub": sub, "exp": int(time.time() + expires_in), **claims}
    present = {name: value for name, value in everything.items() if value is not None}
    return jwt.encode(present, key, algorithm, headers=None if kid is None else {"kid": kid})


def bearer(*arguments: Any, **members: Any) -> str:
    """An ``Authorization`` header with :func:`token`."""
    return f"Bearer {token(*arguments, **members)}"


def forged(header: Any, claims: Any, signature: bytes = b"") -> str:
    """A token of these parts, as no library would make it."""
    parts = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def good_claims(sub: str = "7", **claims: Any) -> dict[str, Any]:
    return {"sub": sub, "exp": int(time.time()) + 600, **claims}


def sign(claims: Any, header: Any = None, secret: str = SECRET) -> str:
    """A token whose signature is right, whatever its parts are."""
    unsigned = forged(header or {"alg": "HS256", "typ": "JWT"}, claims).rpartition(".")[0]
    mac = hmac.digest(secret.encode(), unsigned.encode(), "sha256")
    return f"{unsigned}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


def with_secrets(*secrets: str, **options: Any) -> Authenticator:
    """Who believes tokens that are signed with one of these."""
    return Authenticator(FixedKeys([key_of_secret(secret) for secret in secrets or (SECRET,)]), **options)
