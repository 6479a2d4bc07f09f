"""What a model is worth: accuracy, comparison, latency, where the error comes from, reports."""
