"""A GGUF file to a folder of bf16 safetensors: ``python -m sparsestudy.weights.convert GGUF FOLDER``.

Reading GGUF takes half a minute for the smallest model and loading the result half a second, so it is done
once. It runs as a process of its own: the memory it needs is given back, and its messages go to a file.
"""

from __future__ import annotations

import sys
from pathlib import Path


def convert(gguf: Path, folder: Path) -> None:
    """Write model and tokenizer of ``gguf`` into ``folder``, which is made."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    # Asked for explicitly: otherwise the weights may stay packed, and a packed model cannot be saved.
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
        local_files_only=True,
        trust_remote_code=False,
    )
    tokenizer = AutoTokenizer.from_pretrained(
        gguf.parent, gguf_file=gguf.name, local_files_only=True, trust_remote_code=False
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
