"""What standard error says while a step works."""
