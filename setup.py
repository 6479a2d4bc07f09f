"""Packaging: the YAML files of ``configs/`` and ``tflite/recipes/`` travel inside the package."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["mixnet_tf", "mixnet_tf.*"]), "mixnet_tf.configs", "mixnet_tf.recipes"],
    package_dir={
        "mixnet_tf": "mixnet_tf",
        "mixnet_tf.configs": "configs",
        "mixnet_tf.recipes": "tflite/recipes",
    },
    package_data={
        "mixnet_tf": ["py.typed"],
        "mixnet_tf.evidence": ["*.css", "*.jinja"],
        "mixnet_tf.data": ["*.txt"],
        "mixnet_tf.configs": ["*.yaml"],
        "mixnet_tf.recipes": ["*.yaml"],
    },
)
