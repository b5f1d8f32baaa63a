"""The errors that oddlog raises on purpose: each says what, where and what to do.

Anything else that escapes is a bug. The command line prints these in one line and exits with 1.
"""


class OddlogError(Exception):
    """Base of every error that oddlog raises on purpose."""


class ConfigError(OddlogError):
    """A setting, an option or a missing extra that the caller has to change."""


class FormatError(OddlogError):
    """Input that cannot be read as the log or the table it was said to be."""


class ArtifactError(OddlogError):
    """A model folder that is missing, damaged, or of another format version."""


class NotFittedError(OddlogError):
    """A step was used before it had learned."""


class LabelsError(OddlogError):
    """Labels that are missing where they are needed, or that do not fit the log."""


class EndpointError(OddlogError):
    """A service that cannot be reached, that refuses, or that answers with something else."""


class DetectorError(OddlogError):
    """A detector that breaks its contract, such as one that learns from what it judges."""
