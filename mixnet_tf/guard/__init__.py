"""A ``.tflite`` from anywhere: its tables are verified, and it runs once in a process of its own."""
