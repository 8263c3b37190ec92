"""Passwords that are made out of another secret: what a question's `derive` names.

    derive: ses REGION    Amazon SES: the SMTP password of an IAM user's secret access key, for one region

The chain is AWS's documented one (Amazon SES Developer Guide, "Obtaining Amazon SES SMTP credentials by converting
existing AWS credentials"): HMAC-SHA256 over a fixed date, region, service, terminal and message, version byte 0x04 in
front, Base64. The secret key itself is stored nowhere: what is kept is the derived password, which signs in for SMTP in
that one region and is good for nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

from dma_runtime.secret import Secret
from dma_setup.errors import SetupError
from dma_setup.secret import KEYRING, TYPED, SecretAnswer

_REGION = re.compile(r"[a-z]{2}(?:-[a-z]+)+-[0-9]+")


def apply(how: str, answer: SecretAnswer) -> SecretAnswer:
    """The answer to be used instead of `answer`: itself when there is nothing to derive, or when it was stored already.

    `how`: the text of `derive`, filled in; "" for nothing. Raises SetupError.
    """
    words = how.split()
    if not words or answer.kind == KEYRING or answer.secret is None:
        return answer
    if words[0] != "ses" or len(words) != 2:
        raise SetupError(f"recipe: derive: {how!r} is not understood; known is: ses REGION")
    # Not a reference any more: auth.conf must not lead to the secret it was made of.
    return SecretAnswer(TYPED, "", Secret(ses(answer.secret.reveal(), words[1])))


def ses(secret_access_key: str, region: str) -> str:
    """The SMTP password (44 characters) of an IAM secret access key for `region`, e.g. `eu-central-1`."""
    if not _REGION.fullmatch(region):
        raise SetupError(f"{region} is not the name of an AWS region, such as eu-central-1")
    key = ("AWS4" + secret_access_key).encode()
    for part in ("11111111", region, "ses", "aws4_request", "SendRawEmail"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return base64.b64encode(b"\x04" + key).decode("ascii")
