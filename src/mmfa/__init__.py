"""mmfa: animate a portrait photo from a driving video and steer the motion (Motion Manipulation in Face Animation)."""

__version__ = "0.6.0"
