"""A tiny random Llama as a GGUF file, cut into wheels as the real models are, for tests that fetch."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import gguf
import numpy as np
import yaml
from tokenizers import ByteLevelBPETokenizer

NAME = "tiny-q8"
PARTS = 2
LAYERS, HEADS, KV_HEADS, HEAD_DIM, INNER = 2, 4, 2, 8, 64
HIDDEN = HEADS * HEAD_DIM


def write_gguf(path: Path) -> None:
    """Write the model: random fp32 weights and a byte-level tokenizer."""
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(["the quick brown fox jumps over the lazy dog 0123456789"], vocab_size=280)
    model = json.loads(bpe._tokenizer.to_str())["model"]
    tokens = ["<s>", "</s>", *sorted(model["vocab"], key=model["vocab"].get)]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(512)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_merges(
        [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    )
    writer.add_token_types([3, 3, *[1] * (len(tokens) - 2)])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    for name, value in tensors(len(tokens)).items():
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tensors(vocabulary: int) -> dict[str, np.ndarray]:
    """The weights by their GGUF names; the same every time."""
    rng = np.random.default_rng(0)
    kv = KV_HEADS * HEAD_DIM
    shapes = {
        "attn_q": (HIDDEN, HIDDEN),
        "attn_k": (kv, HIDDEN),
        "attn_v": (kv, HIDDEN),
        "attn_output": (HIDDEN, HIDDEN),
        "ffn_gate": (INNER, HIDDEN),
        "ffn_up": (INNER, HIDDEN),
        "ffn_down": (HIDDEN, INNER),
    }
    names = {f"blk.{layer}.{name}.weight": shape for layer in range(LAYERS) for name, shape in shapes.items()}
    names |= {"token_embd.weight": (vocabulary, HIDDEN), "output.weight": (vocabulary, HIDDEN)}
    found = {name: (rng.standard_normal(shape) * 0.05).astype(np.float32) for name, shape in names.items()}
    norms = ["output_norm", *(f"blk.{i}.{n}" for i in range(LAYERS) for n in ("attn_norm", "ffn_norm"))]
    return found | {f"{name}.weight": np.ones(HIDDEN, np.float32) for name in norms}


def write_wheel(folder: Path, package: str, member: str, data: bytes) -> Path:
    """A wheel that holds one data file."""
    module = package.replace("-", "_")
    info = f"{module}-1.0.0.dist-info"
    path = folder / f"{module}-1.0.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            f"{module}/__init__.py", "raise RuntimeError('this package must never be imported')\n"
        )
        archive.writestr(f"{module}/data/{member}", data)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def build(folder: Path) -> dict[str, object]:
    """Write the wheels of the tiny model into ``folder`` and return its registry entry."""
    whole = folder / "tiny.gguf"
    write_gguf(whole)
    data = whole.read_bytes()
    whole.unlink()
    cut = -(-len(data) // PARTS)
    wheels = [
        write_wheel(folder, f"tiny-weights-part{i + 1}", f"part{i + 1}.bin", data[i * cut : (i + 1) * cut])
        for i in range(PARTS)
    ]
    return {
        "source": "wheel",
        "parameters": sum(array.size for array in tensors(282).values()),
        "context": 512,
        "licence": "Apache-2.0",
        "wheels": [f"tiny-weights-part{i + 1}==1.0.0" for i in range(PARTS)],
        "member": "*/data/part*.bin",
        "sha256": hashlib.sha256(data).hexdigest(),
        "download_bytes": sum(wheel.stat().st_size for wheel in wheels),
        "gguf_bytes": len(data),
        "disk_bytes": 200_000,
    }


def register(path: Path, **changes: object) -> None:
    """Write a registry file with entries by name."""
    path.write_text(yaml.safe_dump(changes), encoding="utf-8")
