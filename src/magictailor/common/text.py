"""Words of files and libraries, made fit for one line on a terminal."""

import re

# Control characters move the cursor or change the terminal; the last ranges reverse the direction of writing.
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
LONG_WORD, LONG_LINE = 200, 1200  # characters


def printable(text: str) -> str:
    """The text with control characters written out (``\\x1b``); line breaks and tabs stay."""
    return CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def shortened(text: str, limit: int) -> str:
    """The beginning and the end of a text that is longer than ``limit``."""
    half = limit // 2 - 2
    return text if len(text) <= limit else f"{text[:half]}...{text[-half:]}"


def reason(error: BaseException, limit: int = 160) -> str:
    """The beginning of an error's text on one line; of an error without text, its class."""
    return " ".join(str(error).split())[:limit] or type(error).__name__


def one_line(text: str) -> str:
    """The text on one line of a bearable length: long paths keep their beginning and end."""
    words = (shortened(printable(word), LONG_WORD) for word in text.split())
    return shortened(" ".join(words), LONG_LINE)


def is_utf8(text: str) -> bool:
    """Whether a name can be written down; on Linux, a file's name may be any bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
