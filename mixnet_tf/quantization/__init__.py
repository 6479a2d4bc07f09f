"""int8 that keeps the accuracy, on the graph of a float ``.tflite``."""
