"""Attention and its estimation on a GPU, in Triton, forward only; only this folder imports Triton.

Importing the package loads neither torch nor Triton, which is missing on some platforms; a module of it
loads both. Which launchers stand in for plain torch, :mod:`sparsestudy.backends` says.
"""
