"""JSON Web Tokens as a deployment's own server would make them, and wrong ones."""

import base64
import hashlib
import hmac
import json
import time


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(secret, session, expires_s=3600, algorithm="HS256", brace="{"):
    """`brace` is how its JSON begins."""
    head = encode(json.dumps({"alg": algorithm, "typ": "JWT"}).replace("{", brace).encode())
    body = encode(json.dumps({"session": session, "exp": int(time.time()) + expires_s}).replace("{", brace).encode())
    signature = hmac.new(secret.encode(), f"{head}.{body}".encode(), hashlib.sha256).digest()
    return f"{head}.{body}.{encode(signature) if algorithm == 'HS256' else ''}"
