"""
Everything fastlung raises on purpose, one class per cause.

.. code-block:: text

    FastlungError
    ├── ConfigError                    wrong usage or configuration            exit 2
    │   ├── SinkConflictError          the sink belongs to another configuration
    │   └── MissingPackageError        (also an ImportError) an optional package is not installed
    ├── NothingFoundError              the source holds no CT series           exit 3
    ├── ScanError                      this scan only: one failed outcome      exit 1
    │   ├── FormatError                bytes that are not the DICOM, or output, they claim to be
    │   │   └── TruncatedError         fewer bytes than the header promises
    │   ├── UnsupportedError           valid, but nothing here reads it
    │   ├── DecodeError                compressed pixels that do not decode
    │   ├── MetadataError              a needed value is absent or not sane
    │   ├── GeometryError              the slices do not form the volume the policy asks for
    │   ├── LimitError                 larger than a limit of ours; nothing was allocated
    │   ├── SeveralSeriesError         one series was asked for, several are there
    │   └── SegmenterError             an outside segmenter gave no labels that can be used
    ├── StoreError                     source or sink                          exit 4
    │   ├── ObjectNotFoundError        (also a FileNotFoundError)
    │   ├── ListingError               without order or end: nobody knows what it left out
    │   ├── SinkLostError              not the sink any more that the run began: ends it
    │   └── AccessError                not allowed
    │       ├── LinkedAwayError        a link leads out of the sink
    │       └── CredentialsError       with none, expired or unknown ones: ends the whole run
    └── ResourceError                  this machine; a later run may succeed
        ├── InsufficientMemoryError
        ├── WorkerDiedError
        └── ScanTimeoutError

A message says what was expected, what was found, where, and what to do. It never holds the value
of an identifying DICOM tag. Every class takes one string, so that it pickles across processes.

A `ScanError` is a property of the bytes: the same input fails the same way again, and a rerun does
not try it again unless asked. Any other failure may pass, and a rerun tries again.
"""


class FastlungError(Exception):
    """Base of everything fastlung raises on purpose."""


class ConfigError(FastlungError):
    """An option, preset or configuration file that cannot be used as given."""


class SinkConflictError(ConfigError):
    """The sink was written with another configuration."""


class MissingPackageError(ConfigError, ImportError):
    """What was asked for needs a package that does not come with fastlung."""


class NothingFoundError(FastlungError):
    """The source was read and holds no CT series."""


class ScanError(FastlungError):
    """One series or source group cannot be processed; the others go on."""


class FormatError(ScanError):
    """Bytes that are not the DICOM, or the output of ours, that they claim to be."""


class TruncatedError(FormatError):
    """Fewer bytes than the header promises."""


class UnsupportedError(ScanError):
    """Valid DICOM that nothing installed here can read."""


class DecodeError(ScanError):
    """Compressed pixels that do not decode to the declared image."""


class MetadataError(ScanError):
    """A value needed for geometry or Hounsfield units is absent or not sane."""


class GeometryError(ScanError):
    """The slices do not form the volume that the policy in force asks for."""


class LimitError(ScanError):
    """The input declares more than a limit of ours allows; nothing was allocated."""


class SeveralSeriesError(ScanError):
    """One series was asked for and several were found."""


class SegmenterError(ScanError):
    """An outside segmenter gave no labels that can be used; the scan keeps our own mask."""


class StoreError(FastlungError):
    """The source or the sink cannot be reached, read or written."""


class ListingError(StoreError):
    """A store whose listing has no end or no order, so that objects may be missing from it."""


class ObjectNotFoundError(StoreError, FileNotFoundError):
    """An object or path that should exist does not."""


class AccessError(StoreError):
    """What is asked for is not allowed."""


class SinkLostError(StoreError):
    """The sink is not the one any more that the run began with."""


class LinkedAwayError(AccessError):
    """A link inside the sink leads out of it, where nothing of ours may be written."""


class CredentialsError(AccessError):
    """
    Credentials are absent, expired or refused, or the clock that signs is wrong.

    Every other scan would meet it too, so that it ends the run instead of failing each of them.
    """


class ResourceError(FastlungError):
    """Not possible on this machine now; a later run, or another machine, may."""


class InsufficientMemoryError(ResourceError):
    """The scan needs more memory than the limit leaves."""


class WorkerDiedError(ResourceError):
    """A worker process ended without a word while it held this scan."""


class ScanTimeoutError(ResourceError):
    """The scan took longer than the time limit and its worker was killed."""
