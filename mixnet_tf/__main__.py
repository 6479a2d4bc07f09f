"""``python -m mixnet_tf`` is ``mixnet-tf``."""

from mixnet_tf.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
