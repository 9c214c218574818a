"""Attention and its estimation on a GPU, in Triton, forward only; only this folder imports Triton.

Importing the package loads neither torch nor Triton, which is missing on some platforms; a module of it
loads both.
"""

from __future__ import annotations

# launcher -> its twin, which runs everywhere, and the simplest right way, both ``module:name``.
TWINS = {
    "sparsestudy.kernels.prefill:selected_attention": (
        "sparsestudy.attention:selected_attention",
        "sparsestudy.attention:masked_attention",
    ),
}
