"""Where weights come from and where they are kept; ``sparsestudy.models`` is what the rest uses."""
