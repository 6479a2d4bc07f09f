"""Packaging: the YAML files of ``configs/`` and ``tflite/recipes/`` travel inside the package."""

from setuptools import setup

setup(
    packages=["mixnet_tf", "mixnet_tf.commands", "mixnet_tf.deploy", "mixnet_tf.configs", "mixnet_tf.recipes"],
    package_dir={
        "mixnet_tf": "mixnet_tf",
        "mixnet_tf.configs": "configs",
        "mixnet_tf.recipes": "tflite/recipes",
    },
    package_data={"mixnet_tf": ["*.txt"], "mixnet_tf.configs": ["*.yaml"], "mixnet_tf.recipes": ["*.yaml"]},
)
