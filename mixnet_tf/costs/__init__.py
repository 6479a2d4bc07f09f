"""What each operator of a ``.tflite`` costs on a phone's core, predicted without one."""
