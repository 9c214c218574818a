"""How fast sparse attention is: kernels alone, with the choice, in decode, and in whole models."""
