"""From a Keras model to a fast, small and checked ``.tflite``."""
