"""The ladder's tokenizer: as an ordinary one of transformers, and as a fast twin that assembles ids."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Any

from sparsestudy.ladder.vocabulary import BOS, BREAK, BREAKS, EOS, PAD, TOKEN, UNKNOWN, pieces, words


def build(context: int) -> Any:
    """The tokenizer as transformers knows it.

    Args:
        context: tokens of the longest text that the models were trained on.

    Returns:
        A ``PreTrainedTokenizerFast``; it puts the begin token before a text.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    ids = {word: i for i, word in enumerate(words())}
    raw = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    raw.normalizer = normalizers.Sequence(
        [normalizers.Replace(Regex(BREAKS), BREAK), normalizers.Prepend(" ")]
    )
    raw.pre_tokenizer = pre_tokenizers.Split(Regex(TOKEN), "removed", invert=True)
    raw.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, ids[BOS])]
    )
    raw.decoder = decoders.Sequence([decoders.Fuse(), decoders.Replace(BREAK, "\n")])
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNKNOWN,
        model_max_length=context,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


class Twin:
    """The same ids without the tokenizers library: a text is looked up word by word.

    It stands in for a tokenizer where tasks count tokens, so that the generators run as they are, about ten
    times as fast.
    """

    chat_template = None

    def __init__(self) -> None:
        self._words = _Words()

    @property
    def backend_tokenizer(self) -> Twin:
        """What counts; see :func:`sparsestudy.tasks.prompt.counted`."""
        return self

    def encode_batch_fast(self, texts: Sequence[str], add_special_tokens: bool = False) -> list[list[int]]:
        """The ids of each text."""
        return [self.ids(text, add_special_tokens) for text in texts]

    def ids(self, text: str, begin: bool = False) -> list[int]:
        """The ids of a text, after the begin token where asked."""
        found = list(chain.from_iterable(map(self._words.__getitem__, text.split(" "))))
        return [identity(BOS), *found] if begin else found


class _Words(dict[str, tuple[int, ...]]):
    """What stands between two spaces -> its ids; found once."""

    def __missing__(self, word: str) -> tuple[int, ...]:
        self[word] = found = tuple(map(identity, pieces(word)))
        return found


@cache
def identity(token: str) -> int:
    """The id of a token, that of the unknown one where there is none."""
    return _numbers().get(token, _numbers()[UNKNOWN])


@cache
def _numbers() -> dict[str, int]:
    return {word: i for i, word in enumerate(words())}
