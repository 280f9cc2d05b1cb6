"""mmfa: animate a portrait photo from a driving video and steer the motion (Motion Manipulation in Face Animation)."""

import os

__version__ = "0.6.0"

# Before torch is imported, whose OpenMP reads it once, when it is loaded. By default threads wait for each other by spinning, and
# beside another busy program the one that waits takes the core from the one that is waited for (`benchmarks/busy.py`).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
