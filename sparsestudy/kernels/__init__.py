"""Attention and its estimation on a GPU, in Triton, forward only; only this folder imports triton."""
