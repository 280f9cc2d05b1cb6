"""Frozen helper networks: face detector, landmarks, head pose, identity and perceptual features."""
