"""The commands of ``python -m sparsestudy``, one module each.

A command module has ``HELP`` (one line), ``configure(parser)`` and ``execute(args) -> int``; importing it
loads nothing heavy.
"""
