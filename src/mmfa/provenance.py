"""What every picture and video made here says of itself, in its metadata."""

from . import __version__

SYNTHETIC = (
    f"Synthetic: a photo animated with mmfa {__version__}. "
    "DigitalSourceType http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
)
"""The IPTC term for real pictures changed by a trained model."""
