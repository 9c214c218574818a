"""The methods: one file each, one line here each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparsestudy.registry import Registry

if TYPE_CHECKING:
    from sparsestudy.methods.base import Method

METHODS: Registry[Method] = Registry(
    "method",
    {
        "dense": "sparsestudy.methods.dense:Dense",
        "window": "sparsestudy.methods.window:Window",
        "random": "sparsestudy.methods.random:Random",
        "oracle": "sparsestudy.methods.oracle:Oracle",
        "block_sparse": "sparsestudy.methods.block_sparse:BlockSparse",
        "vertical_slash": "sparsestudy.methods.vertical_slash:VerticalSlash",
        "flexprefill": "sparsestudy.methods.flexprefill:FlexPrefill",
        "flexprefill_original": "sparsestudy.methods.flexprefill_original:FlexPrefillOriginal",
        "snapkv": "sparsestudy.methods.snapkv:SnapKV",
        "ada_snapkv": "sparsestudy.methods.ada_snapkv:AdaSnapKV",
        "quest": "sparsestudy.methods.quest:Quest",
    },
)
