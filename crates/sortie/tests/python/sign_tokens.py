"""Makes keys, writes their public halves as a JWKS document to the file that is named, and prints tokens as JSON:
{"good": {name: token}, "bad": {name: token}}. The player of each good token is its name."""

import json
import sys
import time

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

ISSUER, AUDIENCE, SECRET = "https://accounts.example", "my-game", "0123456789abcdef0123456789abcdef"

keys = {
    "RS256": (rsa.generate_private_key(public_exponent=65537, key_size=2048), jwt.algorithms.RSAAlgorithm),
    "ES256": (ec.generate_private_key(ec.SECP256R1()), jwt.algorithms.ECAlgorithm),
    "EdDSA": (ed25519.Ed25519PrivateKey.generate(), jwt.algorithms.OKPAlgorithm),
}


def public(algorithm):
    key, maker = keys[algorithm]
    document = json.loads(maker.to_jwk(key.public_key()))
    return {**document, "kid": algorithm, "alg": algorithm, "use": "sig"}


def token(subject, key, algorithm, kid, **changes):
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "exp": int(time.time()) + 3600, **changes}
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, key, algorithm=algorithm, headers={"kid": kid} if kid else {})


def signed(algorithm, **changes):
    return token(algorithm, keys[algorithm][0], algorithm, algorithm, **changes)


with open(sys.argv[1], "w") as file:
    json.dump({"keys": [public(algorithm) for algorithm in keys]}, file)

stranger = ed25519.Ed25519PrivateKey.generate()
now = int(time.time())
print(json.dumps({
    "secret": token("HS256", SECRET, "HS256", None),
    "good": {algorithm: signed(algorithm) for algorithm in keys},
    "bad": {
        "expired": signed("EdDSA", exp=now - 3600),
        "no end": signed("EdDSA", exp=None),
        "not yet": signed("EdDSA", nbf=now + 3600),
        "issuer": signed("RS256", iss="https://evil.example"),
        "audience": signed("ES256", aud="other-game"),
        "subject": signed("EdDSA", sub=None),
        "none": token("p", None, "none", "RS256"),
        "unknown key": token("p", stranger, "EdDSA", "unknown"),
        "stranger": token("p", stranger, "EdDSA", "EdDSA"),
        "other algorithm": token("p", keys["RS256"][0], "RS512", "RS256"),
        "other key": token("p", keys["ES256"][0], "ES256", "RS256"),
        # As text that the library lets pass for a secret; it refuses a whole document or PEM.
        "public key as secret": token("p", public("RS256")["n"], "HS256", "RS256"),
    },
}))
