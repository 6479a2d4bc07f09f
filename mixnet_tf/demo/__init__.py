"""The page of tflite/web, which runs a bundle's models in the browser, served on this machine."""
