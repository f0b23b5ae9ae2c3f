"""Read audio that libsndfile can't, by running an `ffmpeg` program if there is one."""

import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from ..errors import AudioFileError

_FORMATS = (
    "aac,ac3,aiff,alaw,amr,amrnb,amrwb,ape,asf,au,avi,caf,dts,eac3,flac,flv,gsm,matroska,webm,mov,"
    "mp4,m4a,3gp,3g2,mj2,mp3,mpeg,mpegts,mulaw,ogg,tta,w64,wav,wv"
)


class FFmpegStream:
    """The first audio track of a file, decoded by an ffmpeg process.

    Args:
        path: of the file.
        name: of the file, for messages.
        why: libsndfile's error message for the file.

    Attributes:
        sample_rate: in Hz.
        channels: of the track.

    Raises:
        AudioFileError: there is no ffmpeg program, or it finds no audio.
    """

    def __init__(self, path: Path, name: str, why: str) -> None:
        program = shutil.which("ffmpeg")
        self.name = name
        self._place = f"file:{path.absolute()}"
        if program is None:
            raise AudioFileError(
                f"{name}: libsndfile can't read it ({why}), and there is no ffmpeg program to "
                "try; install ffmpeg or convert the file to wav or flac"
            )
        # The AU format has rate and channels in its header and needs no seeking.
        # Formats that refer to other files (playlists, concatenations) are not allowed.
        command = [program, "-nostdin", "-v", "error", "-protocol_whitelist", "file,pipe"]
        command += ["-format_whitelist", _FORMATS, "-i", self._place, "-map", "0:a:0"]
        command += ["-f", "au", "-c:a", "pcm_f32be", "pipe:1"]
        # Messages go to a file, since a badly damaged input can produce more than a pipe holds.
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._messages)
        assert self._process.stdout is not None
        self._output = self._process.stdout
        header = self._output.read(24)
        if len(header) < 24 or header[:4] != b".snd":
            lines = self._said()
            self.close()
            if any("matches no streams" in line for line in lines):
                raise AudioFileError(f"{name}: it has no audio track")
            what = lines[-1] if lines else "no audio in it"
            raise AudioFileError(f"{name}: not audio that can be read: {why}; ffmpeg: {what}")
        offset, _, _, self.sample_rate, self.channels = struct.unpack(">5I", header[4:])
        self._output.read(offset - 24)

    def read(self, frames: int) -> np.ndarray:
        """Return the next samples, (frames, channels) float32; fewer at the end.

        Raises:
            AudioFileError: the file is damaged.
        """
        data = self._output.read(4 * self.channels * frames)
        block = np.frombuffer(data[: len(data) - len(data) % (4 * self.channels)], ">f4")
        block = block.astype(np.float32).reshape(-1, self.channels)
        if block.shape[0] < frames:
            lines = self._said()
            if self._process.returncode or lines:
                what = lines[-1] if lines else f"it ended with {self._process.returncode}"
                raise AudioFileError(f"{self.name}: damaged: ffmpeg: {what}")
        return block

    def _said(self) -> list[str]:
        """Return ffmpeg's messages, once it has ended."""
        self._process.wait()
        self._messages.seek(0)
        lines = self._messages.read().decode(errors="replace").strip().splitlines()
        return [line.removeprefix(f"{self._place}: ") for line in lines]

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._messages.close()
