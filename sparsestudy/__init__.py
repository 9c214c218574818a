"""Sparse attention at equal compute: a study that anyone can rebuild, rerun and extend.

Importing the package changes nothing and loads no torch; every heavy module is imported by the
function that needs it.
"""

__version__ = "0.1.0"
