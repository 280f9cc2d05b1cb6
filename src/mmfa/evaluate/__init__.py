"""Measuring: metrics with written definitions, the frozen networks that they use, and what shows that they work."""
