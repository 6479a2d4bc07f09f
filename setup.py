"""Packaging: ``configs/`` with ``training/``, ``tflite/recipes/`` and ``tflite/web/`` travel inside the package."""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["mixnet_tf", "mixnet_tf.*"]),
        *("mixnet_tf.configs", "mixnet_tf.training_configs", "mixnet_tf.recipes", "mixnet_tf.web"),
    ],
    package_dir={
        "mixnet_tf": "mixnet_tf",
        "mixnet_tf.configs": "configs",
        "mixnet_tf.training_configs": "configs/training",
        "mixnet_tf.recipes": "tflite/recipes",
        "mixnet_tf.web": "tflite/web",
    },
    package_data={
        "mixnet_tf": ["py.typed"],
        "mixnet_tf.evidence": ["*.css", "*.jinja"],
        "mixnet_tf.data": ["*.txt"],
        "mixnet_tf.costs": ["*.json"],
        "mixnet_tf.configs": ["*.yaml"],
        "mixnet_tf.training_configs": ["*.yaml"],
        "mixnet_tf.recipes": ["*.yaml"],
        "mixnet_tf.web": ["*.html", "*.css", "*.js", "*.svg", "*.json"],
    },
)
