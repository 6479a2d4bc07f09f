"""The commands of ``mixnet-tf``, one per module.

Each module has the line ``HELP`` and three functions: ``add_arguments`` to a parser, ``run`` to a plain result that can
be JSON, and ``show`` that result to a reader. What is slow to import is imported by ``run``.
"""
