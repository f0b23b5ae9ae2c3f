"""Train a small language model on a data set of speech tokens, and let it continue a recording.

    syllabary dataset build my-speech/ -o tokens --codec units-16k
    python examples/speech_lm.py tokens --prompt my.wav -o continued.wav --minutes 10

Works with the tokens of any codec; of codecs with several codebooks, the first ones that the data
set has, flattened. The model is a Llama of transformers. Ten minutes of two cores are enough to see
the loss fall, and far too few for sentences.
"""

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

import syllabary
from syllabary import lm
from syllabary.audio import read, write


def main() -> None:
    options = _options()
    torch.manual_seed(options.seed)
    dataset = lm.open_dataset(options.data, options.split)
    begin, end = "<|speech_start|>", "<|speech_end|>"
    vocabulary = lm.Vocabulary(dataset.spec, first=0, codebooks=dataset.num_codebooks)
    reader = lm.reader(
        dataset,
        vocabulary=vocabulary,
        context=options.context,
        batch=options.batch,
        begin=begin,
        end=end,
        seed=options.seed,
    )
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary.stop,
            hidden_size=options.width,
            intermediate_size=3 * options.width,
            num_hidden_layers=options.layers,
            num_attention_heads=options.width // 32,
            max_position_embeddings=options.context,
            bos_token_id=vocabulary.marker(begin),
            eos_token_id=vocabulary.marker(end),
            tie_word_embeddings=True,
        )
    )
    print(f"{model.num_parameters() / 1e6:.1f} M parameters, {vocabulary.stop} ids")
    losses = train(model, reader, options.steps, options.minutes * 60)
    last = losses[-20:]
    report = {"steps": len(losses), "before": losses[0], "after": sum(last) / len(last)}

    codec = syllabary.load(dataset.spec.tokenizer)
    wave, rate = read(options.prompt)
    # Of a whole sentence the continuation would be its end.
    wave = wave[: round(options.prompt_seconds * rate)]
    prompt = codec.encode(wave, rate, resample=True).keep_codebooks(vocabulary.codebooks)
    (ids,) = vocabulary.encode(prompt)
    start = torch.tensor([vocabulary.marker(begin), *ids.tolist()])
    frames = round(options.seconds * float(dataset.spec.frame_rate))
    with lm.SpeechStream(vocabulary, codec) as speech:
        parts = [speech.push(ids)]
        for written in continued(model, start, vocabulary, frames):
            parts.append(speech.push([written]))  # sound as soon as a frame is whole
        parts.append(speech.finish())
    write(options.output, torch.cat(parts), codec.spec.sample_rate)
    report["seconds"] = round(sum(map(len, parts)) / codec.spec.sample_rate, 3)
    print(json.dumps(report))


def train(
    model: LlamaForCausalLM, reader: Iterable[Any], steps: int, seconds: float
) -> list[float]:
    """Train for some steps or seconds, whichever ends first, and at least for one step; give the
    loss of each.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1)
    losses: list[float] = []
    begun = time.monotonic()
    model.train()
    for batch in reader:
        if losses and (len(losses) >= steps or time.monotonic() - begun > seconds):
            break
        # Each step sees what came before it in its own document only.
        logits = model(batch.ids, attention_mask=batch.mask(), position_ids=batch.positions).logits
        loss = functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
        if len(losses) % 50 == 1:
            print(f"step {len(losses)}: loss {losses[-1]:.3f}, next position {batch.next}")
    model.eval()
    return losses


@torch.inference_mode()
def continued(
    model: LlamaForCausalLM, ids: torch.Tensor, vocabulary: lm.Vocabulary, frames: int
) -> Iterator[int]:
    """Yield the ids that the model writes after `ids` (n,), up to its end, or so many frames.

    Only ids that may follow are drawn from: codes of the codebook whose turn it is, and the end
    after a whole frame.
    """
    stream = lm.pattern("flatten", vocabulary.sizes[: vocabulary.codebooks])
    turns = vocabulary.bind(stream, special=vocabulary.stop - 1).stream()
    end = vocabulary.marker("<|speech_end|>")
    found = model(ids[None], use_cache=True)
    while turns.num_frames < frames:
        (first, last) = turns.allowed[0]
        allowed = torch.full((vocabulary.stop,), -torch.inf)
        allowed[first:last] = 0
        if turns.num_steps % vocabulary.codebooks == 0 and turns.num_steps:
            allowed[end] = 0
        probabilities = functional.softmax((found.logits[0, -1] + allowed) / 0.9, dim=-1)
        drawn = int(torch.multinomial(probabilities, 1))
        if drawn == end:
            return
        yield drawn
        turns.push(torch.tensor([drawn]))
        found = model(
            torch.tensor([[drawn]]), past_key_values=found.past_key_values, use_cache=True
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data", type=Path, help="folder of a data set")
    parser.add_argument("--split", default="train", help="that is learned; default: train")
    parser.add_argument("--prompt", required=True, type=Path, help="recording to continue")
    parser.add_argument("--prompt-seconds", default=3.0, type=float, help="of it; default: 3")
    parser.add_argument("-o", "--output", default="continued.wav", type=Path)
    parser.add_argument("--seconds", default=5.0, type=float, help="of speech to write")
    parser.add_argument("--minutes", default=10.0, type=float, help="of training, at most")
    parser.add_argument("--steps", default=10_000, type=int, help="of training, at most")
    parser.add_argument("--context", default=512, type=int, help="steps of a row")
    parser.add_argument("--batch", default=4, type=int, help="rows")
    parser.add_argument("--layers", default=4, type=int)
    parser.add_argument("--width", default=256, type=int)
    parser.add_argument("--seed", default=0, type=int)
    return parser.parse_args()


if __name__ == "__main__":
    main()
