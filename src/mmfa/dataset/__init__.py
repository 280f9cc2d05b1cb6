"""Data sets: from any folder of videos and pictures to face clips with landmarks, and the reader for them."""
