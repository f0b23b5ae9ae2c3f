"""All errors that bad input can cause: `ValueError`s whose messages say what was expected."""


class SyllabaryError(ValueError):
    """Base of all errors raised for bad input; the command line prints it and exits with 2."""


class SyllabaryWarning(UserWarning):
    """Base of all warnings: something the user should know, but no error; the CLI prints it."""


class LevelWarning(SyllabaryWarning):
    """A waveform is far beyond full scale, as if its integers had never been scaled."""


class WaveError(SyllabaryError):
    """A waveform has a wrong sample rate, shape or dtype, or holds NaN or infinity."""


class TokenError(SyllabaryError):
    """Tokens have a wrong shape or dtype, a code out of range, or counts that do not agree."""


class TokenMismatchError(TokenError):
    """Tokens from one tokenizer were given to another."""


class LatentsError(SyllabaryError):
    """Latents have a wrong shape or values, or a tokenizer has none or can't decode them."""


class UnknownTokenizerError(SyllabaryError):
    """A name that is neither bundled, nor a directory, nor a published model."""


class ConfigError(SyllabaryError):
    """A configuration has an unknown or missing field, or a value that the field can't hold."""


class CheckpointError(SyllabaryError):
    """A saved tokenizer is incomplete, damaged or of an unknown family."""


class WeightsError(SyllabaryError):
    """A tokenizer's weights can't be used: their dtype was changed, or they have no values."""


class ExportError(SyllabaryError):
    """A tokenizer can't be exported to the requested format, or a required package is missing."""


class ContainerError(SyllabaryError):
    """A `.syl` file is damaged or truncated, or is not a `.syl` file."""


class StateError(SyllabaryError):
    """A row's state is damaged, is of another tokenizer, or can't be exported at all."""


class CapacityError(SyllabaryError):
    """A pool is full."""


class AudioFileError(SyllabaryError):
    """An audio file can't be read or written."""


class ManifestError(SyllabaryError):
    """A manifest has an invalid line, or an input names no files."""


class QuantizerError(SyllabaryError):
    """A quantizer was given vectors, codes or settings that it can't use."""


class TrainingError(SyllabaryError):
    """A recipe, a data set or a training state can't be used."""


class BPEError(SyllabaryError):
    """Byte-pair encoding can't be trained with these settings, or its files are invalid."""


class ProcessorError(SyllabaryError):
    """The requested processor type can't be emulated on this one."""


class PatternError(SyllabaryError):
    """A codebook pattern has settings that don't agree, or doesn't fit the codes or steps given."""


class InterleavingError(SyllabaryError):
    """Text and speech can't be put in one sequence as asked, or a sequence can't be taken apart."""


class VocabularyError(SyllabaryError):
    """Speech tokens can't be put into a vocabulary, or ids are not of this one."""


class DatasetError(SyllabaryError):
    """A data set is incomplete, damaged or made otherwise than expected, or can't be built."""


class ServingError(SyllabaryError):
    """A server refused a request or a stream, or can't be reached; see `serving.protocol`."""
