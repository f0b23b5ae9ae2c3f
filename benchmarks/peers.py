"""Codecs of others, to be measured beside ours: Lyra v2, Opus, Codec2.

All work at 16 kHz on one file at a time, and give as many samples as they take. A codec's own
constant delay is taken off: `delay` says how many samples it is.
"""

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import soundfile
import soxr

RATE = 16000


class Missing(Exception):
    """A peer that this machine does not have, and what would bring it."""


class Codec(Protocol):
    """Anything to measure.

    Attributes:
        name: what the tables call it.
        setting: how it was run, in a line.
        digest: of everything that decides what it gives.
        delay: samples at 16 kHz that were taken off the front of its output.
    """

    name: str
    setting: str
    digest: str
    delay: int

    def reconstruct(self, wave: np.ndarray) -> tuple[np.ndarray, float]:
        """There and back: (samples,) float32 of the same length, and the bits it took."""


class Lyra:
    """Lyra v2 (SoundStream, arXiv 2107.03312; Google's weights) through LiteRT.

    Args:
        weights: folder of the three .tflite files.
        kbps: 3.2, 6 or 9.2: 16, 30 or 46 quantizers of 4 bits at 50 Hz.

    Raises:
        Missing: no ai-edge-litert, or no weights.
    """

    HOP = 320
    DEPTH = 46
    NUM_QUANTIZERS: ClassVar = {"3.2": 16, "6": 30, "9.2": 46}

    def __init__(self, weights: Path, kbps: str) -> None:
        try:
            import ai_edge_litert.interpreter  # noqa: F401
        except ImportError:
            raise Missing("no ai-edge-litert package") from None
        paths = [weights / f"{part}.tflite" for part in ("soundstream_encoder", "quantizer")]
        paths.append(weights / "lyragan.tflite")
        if not all(path.exists() for path in paths):
            raise Missing(f"no Lyra weights in {weights}; say where they are with --lyra")
        self.name = f"lyra-v2-{kbps}"
        self.num_quantizers = self.NUM_QUANTIZERS[kbps]
        self.delay = 0
        self.setting = (
            f"{self.num_quantizers} quantizers of 4 bits, 20 ms frames, new stream for each file"
        )
        sha = hashlib.sha256(self.setting.encode())
        for path in paths:
            sha.update(path.read_bytes())
        self.digest = sha.hexdigest()
        self._paths = paths

    def reconstruct(self, wave: np.ndarray) -> tuple[np.ndarray, float]:
        self.start()
        total = -(-len(wave) // self.HOP)
        padded = np.pad(wave, (0, total * self.HOP - len(wave)))
        codes = [self.encode(frame[None]) for frame in padded.reshape(total, self.HOP)]
        frames = [self.decode(code) for code in codes]
        decoded = np.concatenate([np.zeros(0, np.float32), *frames])
        return decoded[: len(wave)], float(total * self.num_quantizers * 4)

    def start(self) -> None:
        """A new stream: new interpreters, since `reset_all_variables` leaves some state behind."""
        from ai_edge_litert.interpreter import Interpreter

        encoder, quantizer, decoder = (Interpreter(str(p), num_threads=1) for p in self._paths)
        self._encode = encoder.get_signature_runner()
        self._quantize = quantizer.get_signature_runner("encode")
        self._dequantize = quantizer.get_signature_runner("decode")
        self._decode = decoder.get_signature_runner()

    def encode(self, samples: np.ndarray) -> np.ndarray:
        """Codes of the next frame's samples (1, HOP) float32."""
        features = self._encode(input_audio=samples)["output_0"]
        count = np.array(self.num_quantizers, np.int32)
        # The quantizer has an output for the codes and one for the features that they stand for.
        found = self._quantize(input_frames=features, num_quantizers=count)
        codes = next(v for v in found.values() if v.dtype == np.int32)
        # Stages that are not sent read as -1, whatever the encoder left there.
        sent = np.arange(self.DEPTH)[:, None, None] < self.num_quantizers
        return np.where(sent, codes, -1).astype(np.int32)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Samples (HOP,) of the next frame's codes."""
        quantized = self._dequantize(encoding_indices=codes)["output_0"]
        return self._decode(input_audio=quantized)["output_0"][0]


class Opus:
    """Opus (RFC 6716) by opusenc and opusdec, which take the codec's delay off themselves.

    Args:
        kbps: target; the real rate, of the packets without Ogg's pages, is what counts.
        mode: `vbr`, opusenc's default, or `hard-cbr`.

    Raises:
        Missing: no opus-tools.
    """

    def __init__(self, kbps: str, mode: str = "vbr") -> None:
        self._programs = _programs("opus-tools", "opusenc", "opusdec")
        self.name = f"opus-{kbps}" + ("" if mode == "vbr" else f"-{mode}")
        self.setting = f"--bitrate {kbps} --{mode} --speech --comp 10 --framesize 20"
        self.delay = 0
        version = _run(self._programs[0], "--version").stdout
        self.digest = hashlib.sha256(version + self.setting.encode()).hexdigest()

    def reconstruct(self, wave: np.ndarray) -> tuple[np.ndarray, float]:
        encoder, decoder = self._programs
        with tempfile.TemporaryDirectory(prefix="peers-") as scratch:
            given, coded, back = (Path(scratch, name) for name in ("a.wav", "a.opus", "b.wav"))
            soundfile.write(given, _pcm(wave), RATE)
            _run(encoder, "--quiet", *self.setting.split(), given, coded)
            _run(decoder, "--quiet", "--rate", RATE, "--no-dither", coded, back)
            decoded, rate = soundfile.read(back, dtype="float32")
            if rate != RATE:
                raise RuntimeError(f"opusdec gave {rate} Hz")
            packets = ogg_packets(coded.read_bytes())
        # The first two packets are headers.
        return _fitted(decoded, len(wave)), 8.0 * sum(packets[2:])


class Codec2:
    """Codec2 (Rowe, 2011), a parametric codec at 8 kHz, by c2enc and c2dec; soxr resamples.

    Args:
        mode: as c2enc has it: bits per second, such as 3200 or 1300.

    Raises:
        Missing: no codec2 programs.
    """

    #: Bits and samples at 8 kHz of a frame; files round the bits up to bytes.
    FRAMES: ClassVar = {"3200": (64, 160), "2400": (48, 160), "1300": (52, 320), "700C": (28, 320)}
    #: Samples at 16 kHz by which the decoded speech is late: where STOI is best, in steps of 40.
    DELAYS: ClassVar = {"3200": 320, "2400": 320, "1300": 320, "700C": 520}

    def __init__(self, mode: str) -> None:
        self._programs = _programs("codec2", "c2enc", "c2dec")
        self.name = f"codec2-{mode}"
        self.mode = mode
        self.setting = f"mode {mode}, 8 kHz"
        self.delay = self.DELAYS[mode]
        binaries = b"".join(Path(program).read_bytes() for program in self._programs)
        self.digest = hashlib.sha256(binaries + f"{self.setting} {self.delay}".encode()).hexdigest()

    def reconstruct(self, wave: np.ndarray) -> tuple[np.ndarray, float]:
        bits, hop = self.FRAMES[self.mode]
        narrow = soxr.resample(wave, RATE, 8000, "VHQ")
        sent = -(-len(narrow) // hop)
        total = -(-(len(narrow) + self.delay // 2) // hop)
        padded = np.pad(narrow, (0, total * hop - len(narrow)))
        encoder, decoder = self._programs
        with tempfile.TemporaryDirectory(prefix="peers-") as scratch:
            given, coded, back = (Path(scratch, name) for name in ("a.raw", "a.bit", "b.raw"))
            given.write_bytes(_pcm(padded).tobytes())
            _run(encoder, self.mode, given, coded)
            _run(decoder, self.mode, coded, back)
            decoded = np.frombuffer(back.read_bytes(), "<i2").astype(np.float32) / 32768
        wide = soxr.resample(decoded, 8000, RATE, "VHQ")
        return _fitted(wide[self.delay :], len(wave)), float(sent * bits)


class Tokenizer:
    """One of ours (or wrapped by us): a name, a directory or a published model's id.

    One that works at another sample rate gets the speech resampled by soxr, there and back.

    Args:
        given: `NAME` or `NAME:CODEBOOKS`.

    Raises:
        SyllabaryError: there is no such tokenizer, or not so many codebooks.
    """

    def __init__(self, given: str) -> None:
        import syllabary
        from syllabary.codecs import checkpoint

        name, colon, count = given.rpartition(":")
        if not (colon and count.isdigit()):
            name, count = given, ""
        self._tokenizer: Any = syllabary.load(name)
        spec = self._tokenizer.spec
        self._codebooks = self._tokenizer._check_codebooks(int(count) if count else None)
        self.name = Path(name).name + (f":{count}" if count else "")
        self.delay = 0
        rate = spec.tokens.bitrate(self._codebooks) / 1000
        self.setting = (
            f"{self._codebooks} codebooks, {float(spec.frame_rate):g} Hz, {rate:g} kbit/s"
        )
        config = checkpoint.config_to_json(self._tokenizer.config)
        # Not the token digest: a vocoder changes the sound and not the codes.
        whole = checkpoint.digest(
            self._tokenizer.family, config, dict(self._tokenizer.state_dict())
        )
        self.digest = hashlib.sha256(f"{whole} {self._codebooks}".encode()).hexdigest()

    def reconstruct(self, wave: np.ndarray) -> tuple[np.ndarray, float]:
        own = self._tokenizer.spec.sample_rate
        given = soxr.resample(wave, RATE, own, "VHQ")
        tokens = self._tokenizer.encode(given, own, num_codebooks=self._codebooks)
        bits = int(tokens.lengths.sum()) * tokens.spec.bits_per_frame(tokens.num_codebooks)
        decoded = soxr.resample(self._tokenizer.decode(tokens)[0].numpy(), own, RATE, "VHQ")
        return _fitted(decoded, len(wave)), float(bits)


class Original:
    """The speech itself, as 16-bit samples: what every scale's best is."""

    name, setting, delay = "original", "16-bit samples", 0
    digest = hashlib.sha256(b"original").hexdigest()

    def reconstruct(self, wave: np.ndarray) -> tuple[np.ndarray, float]:
        return wave, 16.0 * len(wave)


def ogg_packets(data: bytes) -> list[int]:
    """Sizes of the packets of an Ogg stream (RFC 3533), in bytes."""
    sizes: list[int] = []
    size = at = 0
    while at < len(data):
        if data[at : at + 4] != b"OggS":
            raise ValueError(f"no Ogg page at byte {at}")
        count = data[at + 26]
        lacing = data[at + 27 : at + 27 + count]
        for part in lacing:
            size += part
            if part < 255:
                sizes.append(size)
                size = 0
        at += 27 + count + sum(lacing)
    return sizes


def lag(reference: np.ndarray, estimate: np.ndarray, most: int = 800) -> int:
    """Samples by which the estimate is late, within ±`most`.

    The peak of the cross-correlation of the envelopes: parametric codecs keep no phases.
    """
    from scipy.ndimage import gaussian_filter1d
    from scipy.signal import correlate

    envelopes = [gaussian_filter1d(np.abs(w.astype(float)), 32) for w in (reference, estimate)]
    first, second = (envelope - envelope.mean() for envelope in envelopes)
    found = correlate(second, first, "full", "fft")
    middle = len(reference) - 1
    window = found[max(0, middle - most) : middle + most + 1]
    return int(window.argmax()) - min(middle, most)


def _fitted(wave: np.ndarray, length: int) -> np.ndarray:
    return np.pad(wave[:length], (0, max(0, length - len(wave))))


def _pcm(wave: np.ndarray) -> np.ndarray:
    return (np.clip(wave, -1, 32767 / 32768) * 32768).round().astype("<i2")


def _programs(package: str, *names: str) -> list[str]:
    found = [shutil.which(name) for name in names]
    if not all(found):
        raise Missing(f"no {' and '.join(names)}; install {package}")
    return [str(path) for path in found]


def _run(*command: Any) -> "subprocess.CompletedProcess[bytes]":
    done = subprocess.run([str(part) for part in command], capture_output=True)
    if done.returncode:
        raise RuntimeError(f"{Path(str(command[0])).name}: {done.stderr.decode().strip()}")
    return done
