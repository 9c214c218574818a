"""The ladder: a family of small models in which only size changes, trained on the study's own tasks.

``python -m sparsestudy.ladder`` shows what it can do. Nothing here is imported by the rest of the package.
"""
