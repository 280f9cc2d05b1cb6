"""Errors whose message is one clear sentence for the person who runs the program."""


class MmfaError(ValueError):
    """Base of every error that the package raises on purpose."""


class MediaError(MmfaError):
    """A picture, video or output place cannot be read or written."""


class FaceError(MmfaError):
    """A picture or video holds no usable face."""


class ModelError(MmfaError):
    """Model weights are unknown, damaged or do not fit the network."""


class ConfigError(MmfaError):
    """A configuration file or option does not make sense."""


class Cancelled(MmfaError):
    """The work was given up by whoever asked for it."""
