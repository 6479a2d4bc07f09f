"""Training in several processes: which one this is, and what they tell each other."""
