"""MixNet for Keras 3, from NetsPresso's YAML to a fast int8 ``.tflite``."""
