"""Images and labels: decoding, data sets, calibration images, batches."""
