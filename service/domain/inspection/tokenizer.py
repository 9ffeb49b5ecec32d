"""Tokenizers: the JSON file that Hugging Face's `tokenizers` library writes, read by that library itself."""

from __future__ import annotations

import json
from typing import Any, BinaryIO

from tokenizers import Tokenizer

from jobs.spec.dataset import TokenizerFacts
from service.domain.inspection.columns import Facts, brief, refuse

MAX_BYTES = 64 * 1024 * 1024
MAX_VOCABULARY = 4_000_000
ADVICE = "Upload the tokenizer.json that `tokenizers.Tokenizer.save` writes"


def inspect_tokenizer(stream: BinaryIO) -> Facts:
    """Build a tokenizer of a file.

    Raises:
        DatasetInvalid: it is none, is too large, or has no vocabulary.
    """
    content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise refuse(f"The tokenizer has more than {MAX_BYTES} bytes.")
    tokenizer = _built(content)
    size = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1
    if not 0 < size <= MAX_VOCABULARY:
        raise refuse(f"The tokenizer's tokens must be numbered from 0 to at most {MAX_VOCABULARY - 1}. {ADVICE}.")
    return Facts(tokenizer=TokenizerFacts(_kind(content), size))


def _built(content: bytes) -> Tokenizer:
    try:
        return Tokenizer.from_str(content.decode())
    except UnicodeDecodeError as error:
        raise refuse(f"The file is not UTF-8: {error.reason}. {ADVICE}.") from error
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library raises plain Exception, and a panic of its Rust half is not even that
        raise refuse(f"The file is not a tokenizer: {brief(error)}. {ADVICE}.") from error


def _kind(content: bytes) -> str:
    document: dict[str, Any] = json.loads(content)
    return str(document["model"].get("type", "unknown"))[:40]
