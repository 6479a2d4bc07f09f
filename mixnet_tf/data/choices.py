"""What may be chosen about images, and what is taken where nobody chooses. Imports nothing."""

SPLITS = ("train", "val", "test")
ON_BAD_IMAGE = ("error", "skip")

PIXEL_RANGES = ("0..1", "0..255")
"""Black to white in an ``.npz`` file, where its numbers alone do not say for certain."""

INPUT_FORMATS = ("pixels", "fractions", "signed", "normalized")
"""What a model takes for an image: 0 to 255, 0 to 1, -1 to 1, or as ``preprocess_input`` makes it."""

SCORES = ("softmax", "sigmoid", "logits")
"""What a classifier gives for each class: probabilities that add up to 1, probabilities that do not, or logits."""

IMAGE_SIZE = 224
"""Pixels per side, where neither the user, nor the model, nor the data says."""

CROP_FRACTION = 0.875
"""The part of a resized photograph that evaluation keeps: timm's ``crop_pct``."""

LEAST_CROP = 0.01
"""Of what a file may ask for: below, a picture would be resized to a hundred times the input."""

CALIBRATION_IMAGES = 200
"""How many images calibrate where nobody says how many."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
"""Of what is taken for a picture in a folder; a folder so named is no class."""

MOST_WORKERS = 61
"""Processes that read images; Windows cannot wait for more."""
