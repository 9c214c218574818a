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
        "block_sparse": "sparsestudy.methods.block_sparse:BlockSparse",
        "quest": "sparsestudy.methods.quest:Quest",
    },
)
