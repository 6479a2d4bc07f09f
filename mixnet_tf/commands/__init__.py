"""The commands of ``mixnet-tf``: each adds its arguments, runs to a plain result, and shows it."""
