"""A fast word-level tokenizer such as small models with a closed vocabulary have."""

from __future__ import annotations

from functools import cache
from typing import Any

WORD = r"[A-Z]?[a-z]+|[A-Z]|[0-9]|[^\sA-Za-z0-9]"


@cache
def word_level() -> Any:
    """Words, single capitals, single digits and signs; spaces and line breaks are dropped.

    Its vocabulary is empty: every token is unknown, and only their number and places count.
    """
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.WordLevel({"<unk>": 0, "</s>": 1}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), "removed", invert=True)
    return PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>", eos_token="</s>")
