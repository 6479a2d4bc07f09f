"""A folder to hand over: how it is made, what its manifest must say, and whether it is whole."""
