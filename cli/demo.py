"""`syllabary demo`: encode and decode a bundled clip, with a plot."""

from pathlib import Path

import click

from ..cores import use_one_thread
from . import options
from .roundtrip import print_table

CLIP = Path(__file__).parent.parent / "assets" / "demo.flac"


@click.command()
@options.output("Folder for the results; default: demo-out.")
@options.codec
@options.device
def demo(output: str | None, codec: str, device: str) -> None:
    """Encode and decode a bundled clip, score the result, and plot both."""
    import torch

    from ..audio.files import read
    from ..codecs.container import read_tokens
    from ..codecs.registry import load
    from ..eval.picture import draw_round_trip
    from ..eval.round_trip import round_trip

    use_one_thread()
    tokenizer = load(codec, device=device)
    rate = tokenizer.spec.sample_rate
    # The first call of every library is slow; the speed shown is that after a warm-up.
    tokenizer.decode(tokenizer.encode(torch.zeros(rate), rate))
    folder = Path(output or "demo-out")
    result = round_trip(tokenizer, CLIP, folder / "demo")
    print_table([result], codec)
    click.echo(f"tokens   {result.tokens}")
    click.echo(f"decoded  {result.decoded}")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        click.echo('picture  needs matplotlib: pip install "syllabary[eval]"')
        return
    picture = folder / "demo.png"
    original, _ = read(CLIP, rate)
    decoded, _ = read(result.decoded)
    codes = read_tokens(result.tokens).codes[0].numpy()
    spec = tokenizer.spec
    title = (
        f"{codec}: {float(spec.frame_rate):g} frames/s × {spec.tokens.num_codebooks} codebooks, "
        f"{spec.bitrate / 1000:g} kbit/s"
    )
    draw_round_trip(picture, original, decoded, codes, rate, title)
    click.echo(f"picture  {picture}")
