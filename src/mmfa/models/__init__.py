"""Kinds of models, a folder each: networks and migrations; and, where weights ship, the weights and their card."""
