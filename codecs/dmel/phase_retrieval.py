"""Training-free streaming phase retrieval for dMel tokens."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclasses.dataclass(frozen=True)
class PhaseRetrievalConfig:
    channels: int = 80
    hop: int = 200
    sample_rate: int = 16_000
    window: int = 800
    n_fft: int = 1024
    fmin: float = 80.0
    fmax: float = 7600.0
    block_frames: int = 4
    pitch_delay: int = 4
    pitch_stride: int = 2
    internal_hop: int = 200
    solver_frames: int = 10
    iterations: int = 12
    momentum: float = 0.99
    smooth_time: float = 0.1
    smooth_freq: float = 0.1
    tolerance: float = 0.1
    interp_tolerance: float = 0.1
    pitch_min: float = 65.0
    pitch_max: float = 420.0
    pitch_step: float = 0.015
    pitch_glide: float = 0.03
    pitch_jump: float = 0.5
    voicing_threshold: float = 0.7
    voicing_width: float = 0.15
    voiced_cutoff: float = 4500.0
    voiced_slope: float = 800.0

    @property
    def up(self) -> int:
        return self.hop // self.internal_hop

    @property
    def delay_samples_raw(self) -> int:
        return (
            self.hop * (self.pitch_delay - self.block_frames)
            + self.solver_frames * self.internal_hop
            - self.hop // 2
            + self.window // 2
        )

    @property
    def delay_frames(self) -> int:
        return -(-self.delay_samples_raw // self.hop)

    @property
    def latency_ms(self) -> float:
        return 1e3 * (self.delay_frames + self.block_frames) * self.hop / self.sample_rate


@dataclasses.dataclass
class State:
    lo: Tensor
    hi: Tensor
    centre: Tensor
    score: Tensor
    back: Tensor
    match: Tensor
    phase: Tensor
    position: Tensor
    source: Tensor
    model_mel: Tensor
    spectrum: Tensor
    previous: Tensor
    lower: Tensor
    upper: Tensor
    committed: Tensor
    pending: Tensor


FLOOR = -10.0
TRANS = 6
NOISE_FRAMES = 251


class PhaseRetrievalVocoder(nn.Module):
    def __init__(self, config: PhaseRetrievalConfig, filterbank: Tensor) -> None:
        super().__init__()
        c = self.config = config
        self.bins = c.window // 2 + 1
        # internal transform = window length
        ratio = c.n_fft / c.window
        pos = torch.arange(self.bins) * ratio
        k = pos.long().clamp(max=filterbank.shape[1] - 2)
        a = pos - k
        fb = ratio * (filterbank[:, k] * (1 - a) + filterbank[:, k + 1] * a)
        self.register_buffer("analysis", fb.T.contiguous())
        spread = fb / fb.sum(0).clamp_min(1e-9)
        self.register_buffer("spread", spread.repeat_interleave(2, 1).contiguous())
        win = torch.hann_window(c.window, periodic=True)
        self.register_buffer("win", win)
        past = self.past = c.window // c.internal_hop - 1
        pad = torch.zeros(1, past, c.window)
        sq = (win**2).expand(1, c.solver_frames + past, c.window)
        den = self._ola(torch.cat([sq, pad], 1))[0]
        self.register_buffer("inv_den", 1.0 / den.clamp_min(1e-2))
        self._init_pitch(filterbank)
        noise = torch.randn(
            NOISE_FRAMES * c.internal_hop, generator=torch.Generator().manual_seed(1)
        )
        noise = torch.cat([noise, noise[: c.window - c.internal_hop]])[None]
        self.register_buffer("noise", torch.view_as_real(self._frames(noise))[0].flatten(1))
        # f0 interpolation positions
        b, p, h = c.block_frames, c.pitch_delay, c.hop
        end = -p + (c.up - 1) / c.up + c.window / 2 / h
        u = end - b + torch.arange(b * h) / h  # relative to newest token n
        self.points = (b + p) // c.pitch_stride

        def place(u):
            r = (u + b + p - 1 - (c.pitch_stride - 1) / 2) / c.pitch_stride
            r = r.clamp(0, self.points - 1)
            i = r.long().clamp(max=self.points - 2)
            return i, r - i

        i, f = place(u)
        self.register_buffer("path_index", i)
        self.register_buffer("path_frac", f)
        i, f = place(1 - b - p + torch.arange(b * c.up) / c.up)
        self.register_buffer("voice_index", i)
        self.register_buffer("voice_frac", f)
        freq = torch.arange(self.bins) * c.sample_rate / c.window
        self.register_buffer(
            "band", torch.sigmoid((c.voiced_cutoff - freq) / c.voiced_slope).repeat_interleave(2)
        )

    def _init_pitch(self, fb: Tensor) -> None:
        c = self.config
        freq = torch.arange(fb.shape[1]) * c.sample_rate / c.n_fft
        centre = (fb * freq).sum(1) / fb.sum(1)
        self.low = int((centre < 1560).sum())
        f = fb[: self.low]
        grid = torch.exp(torch.arange(math.log(c.pitch_min), math.log(c.pitch_max), c.pitch_step))
        rows = []
        for f0 in grid.tolist():
            d = (freq[None] - f0 * torch.arange(1, int(2500 / f0) + 2)[:, None]) * (
                c.window / c.sample_rate
            )
            h = torch.sinc(d).abs() / (1 - d**2 + 1e-9).abs()
            h = torch.where((d.abs() - 1).abs() < 1e-3, 0.5, h) * (d.abs() < 2)
            s = h.square().sum(0).sqrt()
            rows.append(torch.log10(f @ s / f.sum(1) + 0.03))
        t = torch.stack(rows)
        basis = torch.cos(
            math.pi * (torch.arange(self.low)[:, None] + 0.5) * torch.arange(5) / self.low
        )
        q = torch.linalg.qr(basis)[0]
        proj = torch.eye(self.low) - q @ q.T
        t = t @ proj
        t = t / t.norm(dim=1, keepdim=True) * math.sqrt(36 / self.low)
        self.register_buffer("matcher", (t @ proj).T.contiguous())
        self.register_buffer("grid", grid)
        self.register_buffer("log_grid", grid.log())
        self.register_buffer("around", torch.arange(-1, 2))
        gap = (torch.arange(len(grid))[:, None] - torch.arange(len(grid))).abs()
        self.register_buffer("moves", -torch.where(gap <= TRANS, c.pitch_glide * gap, c.pitch_jump))

    def init_state(self, batch: int) -> State:
        c = self.config
        z = lambda *s: self.win.new_zeros(batch, *s)
        tok = c.pitch_delay + 2
        w, k, hist = c.solver_frames, self.grid.numel(), c.window - c.internal_hop
        sil = torch.full_like(z(tok, c.channels), FLOOR)
        cz = z(w, 2 * self.bins)
        cells = torch.full_like(z(w, c.channels), 1e-10)
        extra = c.delay_frames * c.hop - c.delay_samples_raw
        return State(
            sil,
            sil,
            sil,
            z(k),
            z(c.pitch_delay // c.pitch_stride, k).long(),
            z(c.pitch_delay // c.pitch_stride, k),
            z(),
            z().long(),
            z(hist),
            z(2 * c.up, c.channels),
            cz,
            cz,
            cells,
            cells,
            z(self.past, c.window),
            z(extra),
        )

    def _ola(self, frames: Tensor) -> Tensor:
        """(b, past + n + past, window) -> (b, (n + past) * hop)"""
        h, r = self.config.internal_hop, self.past + 1
        b, n, w = frames.shape
        n -= self.past
        view = frames.as_strided(
            (b, n, r, h), (frames.stride(0), w, w - h, 1), frames.storage_offset() + self.past * h
        )
        return view.sum(2).flatten(1)

    def _frames(self, x: Tensor) -> Tensor:
        return torch.fft.rfft(x.unfold(1, self.config.window, self.config.internal_hop) * self.win)

    def _irfft(self, x: Tensor) -> Tensor:
        return torch.fft.irfft(torch.view_as_complex(x.unflatten(2, (-1, 2))), n=self.config.window)

    def _up(self, x: Tensor) -> Tensor:
        """(b,t,c)->(b,t*up,c) linear, hold at the end"""
        u = self.config.up
        if u == 1:
            return x
        nxt = torch.cat([x[:, 1:], x[:, -1:]], 1)
        f = torch.arange(u, device=x.device)[:, None] / u
        return (x[:, :, None] + (nxt - x)[:, :, None] * f).flatten(1, 2)

    @torch.inference_mode()
    def step(self, s: State, lo: Tensor, hi: Tensor, centre: Tensor) -> Tensor:
        c = self.config
        B, P, up = c.block_frames, c.pitch_delay, c.up
        BU = B * up
        cen = torch.cat([s.centre, centre.mT.clamp(FLOOR, 6)], 1)
        lo = torch.cat([s.lo, lo.mT.clamp(FLOOR, 6)], 1)
        hi = torch.cat([s.hi, hi.mT.clamp(FLOOR, 6)], 1)
        keep = P + 2
        s.lo, s.hi, s.centre = lo[:, -keep:], hi[:, -keep:], cen[:, -keep:]
        # pitch
        match = cen[:, -B:, : self.low].clamp_min(-3.5).unflatten(1, (-1, c.pitch_stride)).mean(2)
        match = match @ self.matcher  # (b,B/stride,K)
        D, K = s.score, self.grid.numel()
        backs = [s.back]
        for t in range(match.shape[1]):
            D, i = (D[:, None] + self.moves).max(2)
            D += match[:, t]
            backs.append(i[:, None])
        s.score = D - D.amax(1, keepdim=True)
        back = torch.cat(backs, 1)
        match = torch.cat([s.match, match], 1)
        s.back, s.match = back[:, B // c.pitch_stride :], match[:, B // c.pitch_stride :]
        p = D.argmax(1, keepdim=True)
        path = [p]
        for t in range(self.points - 1, 0, -1):
            p = back[:, t].gather(1, p)
            path.append(p)
        path = torch.stack(path[::-1], 1)  # (b,points,1)
        near = (path + self.around).clamp_(0, K - 1)
        left, mid, right = match.gather(2, near).unbind(2)
        shift = (0.5 * (left - right) / (left - 2 * mid + right).clamp(max=-1e-4)).clamp(-0.5, 0.5)
        logf = self.log_grid[path[..., 0]] + c.pitch_step * shift
        # excitation
        i = self.path_index
        f0 = torch.exp(logf[:, i] + (logf[:, i + 1] - logf[:, i]) * self.path_frac)
        phase = s.phase[:, None] + torch.cumsum(f0 * (2 * math.pi / c.sample_rate), 1)
        s.phase = phase[:, -1] % (2 * math.pi)
        kk = torch.floor(7800 / f0)
        half = 0.5 * phase
        sn = torch.sin(half)
        safe = torch.where(sn.abs() < 1e-3, 1.0, sn)
        e = torch.where(sn.abs() < 1e-3, kk, 0.5 * (torch.sin((kk + 0.5) * phase) / safe - 1))
        src = torch.cat([s.source, e * torch.sqrt(2 / kk)], 1)
        hist = c.window - c.internal_hop
        s.source = src[:, -hist:]
        i = self.voice_index
        v = torch.sigmoid((mid - c.voicing_threshold) / c.voicing_width)
        v = (v[:, i] + (v[:, i + 1] - v[:, i]) * self.voice_frac)[:, :, None] * self.band
        rows = (s.position[:, None] + torch.arange(BU, device=v.device)) % NOISE_FRAMES
        s.position = (s.position + BU) % NOISE_FRAMES
        E = (
            torch.view_as_real(self._frames(src)).flatten(2) * v.sqrt()
            + self.noise[rows] * (1 - v).sqrt()
        )
        mel = torch.log10((_magnitude(E) @ self.analysis).clamp_min(1e-9))
        mel = torch.cat([s.model_mel, mel], 1)
        s.model_mel = mel[:, -2 * up :]
        # de-quantise: tokens n-P-B-1..n-P
        a = cen.shape[1] - P - B - 2
        cl, ch, cc = (q[:, a : a + B + 2] for q in (lo, hi, cen))
        base = mel[:, ::up]
        r = cc - base
        r = torch.cat([r[:, :1], r, r[:, -1:]], 1)
        r = r[:, 1:-1] * (1 - 2 * c.smooth_time) + (r[:, 2:] + r[:, :-2]) * c.smooth_time
        r = torch.cat([r[:, :, :1], r, r[:, :, -1:]], 2)
        r = r[:, :, 1:-1] * (1 - 2 * c.smooth_freq) + (r[:, :, 2:] + r[:, :, :-2]) * c.smooth_freq
        z = torch.clamp(r + base, cl, ch)
        g = self._up(z - base)
        zi = g + mel
        L, H = zi - c.interp_tolerance, zi + c.interp_tolerance
        L[:, ::up] = torch.maximum(cl, z - c.tolerance)
        H[:, ::up] = torch.minimum(ch, z + c.tolerance)
        new = (B + 1) * up
        lower = torch.cat([s.lower[:, BU : c.solver_frames - up], 10 ** L[:, up:]], 1)
        upper = torch.cat([s.upper[:, BU : c.solver_frames - up], 10 ** H[:, up:]], 1)
        X0 = E * (10 ** g[:, -BU:] @ self.spread)
        X = torch.cat([s.spectrum[:, BU:], X0], 1)
        Yp = torch.cat([s.previous[:, BU:], X0], 1)
        s.lower, s.upper = lower, upper
        past = self.past
        buf = X.new_zeros(X.shape[0], c.solver_frames + 2 * past, c.window)
        buf[:, :past] = s.committed
        active = buf[:, past : past + c.solver_frames]
        for _ in range(c.iterations):
            torch.mul(self._irfft(X), self.win, out=active)
            x = self._ola(buf).mul_(self.inv_den)
            Y = torch.view_as_real(self._frames(x)).flatten(2)
            Z = torch.lerp(Yp, Y, 1 + c.momentum)
            Yp = Y
            M = (_magnitude(Z) @ self.analysis).clamp_min_(1e-10)
            X = Z.mul_((M.clamp(lower, upper).div_(M)) @ self.spread)
        s.spectrum, s.previous = X, Yp
        torch.mul(self._irfft(X), self.win, out=active)
        buf[:, past + BU :] = 0
        n = BU * c.internal_hop
        y = self._ola(buf)[:, :n] * self.inv_den[:n]
        s.committed = buf[:, BU : BU + past].clone()
        y = torch.cat([s.pending, y], 1)
        s.pending = y[:, B * c.hop :]
        return y[:, : B * c.hop].clamp(-1, 1)

    def decode(self, lo: Tensor, hi: Tensor, centre: Tensor, samples: int) -> Tensor:
        c = self.config
        s = self.init_state(lo.shape[0])
        T = lo.shape[2]
        n = -(-(T + c.delay_frames) // c.block_frames)
        pad = n * c.block_frames - T
        lo, hi, centre = (F.pad(q, (0, pad), value=FLOOR) for q in (lo, hi, centre))
        out = [
            self.step(
                s,
                *(q[:, :, i * c.block_frames : (i + 1) * c.block_frames] for q in (lo, hi, centre)),
            )
            for i in range(n)
        ]
        d = c.delay_frames * c.hop
        return torch.cat(out, 1)[:, d : d + samples]


def _magnitude(z: Tensor) -> Tensor:
    """(b,n,2k) interleaved -> (b,n,k)"""
    if z.device.type == "cpu":
        return torch.from_numpy(np.abs(z.numpy().view(np.complex64)))
    return torch.view_as_complex(z.unflatten(2, (-1, 2))).abs()


def _for_dmel(config, filters):
    v = PhaseRetrievalVocoder(
        PhaseRetrievalConfig(channels=config.num_mels, hop=config.hop_length), filters.T.float()
    )
    v.hop = config.hop_length
    v.block_frames = v.config.block_frames
    v.delay_frames = v.config.delay_frames
    v.macs_per_second = 0.0
    v.latency = (v.delay_frames + v.block_frames - 1) * v.hop
    return v


PhaseRetrievalVocoder.for_dmel = staticmethod(_for_dmel)
