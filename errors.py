"""Every error that a user can cause, each a `ValueError` that says what was expected."""


class SyllabaryError(ValueError):
    """Base of all errors raised for bad input; the command line prints it and exits with 2."""


class SyllabaryWarning(UserWarning):
    """Base of what is worth a word and stops nothing; the command line prints it."""


class WaveError(SyllabaryError):
    """A waveform has a wrong sample rate, shape or dtype, or holds NaN or infinity."""


class TokenError(SyllabaryError):
    """Tokens have a wrong shape or dtype, a code out of range, or counts that do not agree."""


class TokenMismatchError(TokenError):
    """Tokens of one tokenizer were given to another."""


class UnknownTokenizerError(SyllabaryError):
    """A name that is neither bundled, nor a directory, nor a published model."""


class ConfigError(SyllabaryError):
    """A configuration has an unknown or missing field, or a value that the field can't hold."""


class CheckpointError(SyllabaryError):
    """A saved tokenizer is incomplete, damaged or of an unknown family."""


class WeightsError(SyllabaryError):
    """A tokenizer's weights were changed to what it can't run with: another dtype, no values."""


class ExportError(SyllabaryError):
    """A tokenizer has no form in the format asked for, or a package that writes it is missing."""


class ContainerError(SyllabaryError):
    """A `.syl` file is damaged, cut short, or not a `.syl` file."""


class StateError(SyllabaryError):
    """The exported state of a stream's row is damaged or of another tokenizer, or can't be had."""


class CapacityError(SyllabaryError):
    """A pool has no place for another client."""


class AudioFileError(SyllabaryError):
    """An audio file can't be read or written."""


class ManifestError(SyllabaryError):
    """A manifest has a line that can't be read, or names nothing."""


class QuantizerError(SyllabaryError):
    """A quantizer was given vectors, codes or settings that it can't work with."""


class TrainingError(SyllabaryError):
    """A recipe, a data set or a training state can't be used."""


class BPEError(SyllabaryError):
    """Byte-pair encoding can't be trained as asked, or its files are damaged or of another kind."""


class ProcessorError(SyllabaryError):
    """A processor that this one can't work as."""


class PatternError(SyllabaryError):
    """A codebook pattern has settings that don't agree, or doesn't fit the codes or steps given."""


class InterleavingError(SyllabaryError):
    """Text and speech can't be put in one sequence as asked, or a sequence can't be taken apart."""


class VocabularyError(SyllabaryError):
    """Speech tokens can't be put into a vocabulary, or ids are not of this one."""
