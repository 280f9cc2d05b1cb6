"""From what a model renders and the photo to the finished frame, at the photo's own resolution. Knows no network.

Three things lie over each other: the backdrop, which is the photo with the person filled in; the person, cut from the photo once
by a matte, and moved by one smooth flow; and what the model draws over the face. Where nothing moves, they are the photo,
exactly.
"""

from .canvas import Canvas, Pasted, PersonCanvas

__all__ = ["Canvas", "Pasted", "PersonCanvas"]
