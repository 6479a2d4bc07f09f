"""Recipes that tests compare the shipped ones with."""

from mixnet_tf.quantization.recipe import Equalization, Recipe

PLAIN = Recipe(
    name="plain",
    weights="int8",
    activations="int8",
    equalize=Equalization(streams=False, relu=False),
    ranges="minmax",
    bias_correction=False,
)
"""int8 without any step of this package: what the others are worth is measured against it."""
