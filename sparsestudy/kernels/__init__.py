"""Attention and its estimation on a GPU, in Triton, forward only; needs triton, which only this folder imports."""
