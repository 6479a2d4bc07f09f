"""The commands of ``mixnet-tf``, one a module.

Each module has the line ``HELP`` and three functions: ``add_arguments`` to a parser, ``run`` to a plain result that JSON
can hold, and ``show`` that result to a reader. What is slow to import is imported by ``run``.
"""
