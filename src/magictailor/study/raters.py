"""Raters: the tokens in their links, the names that stand for them in the answers, invitations and codes."""

import base64
import hmac
import re
import secrets
from hashlib import sha256
from pathlib import Path

from magictailor.common.errors import InputError
from magictailor.common.files import write_text
from magictailor.study.design import Study

SECRET_FILE = "secret.txt"
TOKEN = re.compile(r"[A-Za-z0-9_-]{22}")  # 128 bits
RATER = re.compile(r"[0-9a-f]{16}")


def new_token() -> str:
    """A token that cannot be guessed: who has it, answers as this rater."""
    return secrets.token_urlsafe(16)


def rater_of(token: str) -> str:
    """The rater's name in the answers. It does not give the token away."""
    return sha256(b"rater " + token.encode()).hexdigest()[:16]


def study_secret(folder: Path) -> bytes:
    """The study's secret, which invitations and codes are derived from; it is made when first asked for.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / SECRET_FILE
    if not path.exists():
        write_text(path, secrets.token_hex(32) + "\n")
        path.chmod(0o600)
    text = path.read_text("utf-8", errors="replace").strip()
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise InputError(f"{path}: not a secret", "remove it; new invitations and codes will be made")
    return bytes.fromhex(text)


def _derived(secret: bytes, purpose: str) -> bytes:
    return hmac.digest(secret, purpose.encode(), "sha256")


def invitations(study: Study, secret: bytes) -> list[str]:
    """The tokens of invited raters; the same each time."""
    made = (_derived(secret, f"invitation {number}")[:16] for number in range(study.entry.invitations))
    return [base64.urlsafe_b64encode(token).decode().rstrip("=") for token in made]


def code_of(rater: str, secret: bytes) -> str:
    """The code that a rater gets at the end, for a crowd platform: eight letters and digits without 0, 1, I and O."""
    return base64.b32encode(_derived(secret, f"code {rater}")).decode()[:8].replace("I", "8").replace("O", "9")


def rater_named(text: str) -> str:
    """The rater's name from a name, a token, or a link with a token.

    Raises:
        InputError: none of these.
    """
    last = text.strip().rstrip("/").rsplit("/", 1)[-1].partition("#")[0]
    if RATER.fullmatch(last):
        return last
    if TOKEN.fullmatch(last):
        return rater_of(last)
    raise InputError(
        f"{text}: not a rater", "give the number that the rater sees at the end, or the rater's link", field="raters"
    )
