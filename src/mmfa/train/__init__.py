"""Training. Inference never imports this package."""
