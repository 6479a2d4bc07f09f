"""LiteRT: the flatbuffer, the interpreter, Keras to ``.tflite``, the op table."""
