"""Files in, files out: pictures, videos and square face crops. Knows nothing of networks."""
