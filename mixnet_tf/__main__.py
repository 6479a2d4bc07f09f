"""``python -m mixnet_tf`` is ``mixnet-tf``."""

from mixnet_tf.cli import program

if __name__ == "__main__":
    program()
