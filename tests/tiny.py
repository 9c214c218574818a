"""A real but tiny Llama with random weights, and a checkout of its own to run it in."""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
NAME = "tiny"


def write_model(folder: Path) -> Path:
    """Write a two-layer Llama and a small tokenizer, in the files that a hub model has."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=3000,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = sorted((ROOT / "sparsestudy" / "tasks").glob("*.py"))
    raw.train_from_iterator([text.read_text(encoding="utf-8") for text in texts], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        bos_token_id=0,
        eos_token_id=1,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_checkout(root: Path, model: Path) -> Path:
    """A checkout with the real notebook and Snakefile, no runs, and the tiny model under the name ``tiny``.

    Args:
        root: where to make it.
        model: from :func:`write_model`.

    Returns:
        The file to name in ``SPARSESTUDY_MODELS``.
    """
    for folder in ("notebooks/params/accuracy", "notebooks/params/local/accuracy", "results/local"):
        (root / folder).mkdir(parents=True)
    for file in ("accuracy.ipynb", "Snakefile"):
        shutil.copy(ROOT / "notebooks" / file, root / "notebooks" / file)
    models = root / "models.yaml"
    models.write_text(yaml.safe_dump({NAME: {"source": "folder", "path": str(model)}}))
    return models
