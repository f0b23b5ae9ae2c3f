"""One data set of speech tokens, in the shapes that two trainers of language models read.

    syllabary dataset build my-speech/ -o tokens --codec rvq-16k --codebooks 2
    python examples/training_loaders.py tokens

- `nanochat_batches` gives what nanochat's training loop asks of its loader: pairs (inputs, targets)
  of (rows, context) ids, for ever, split over the ranks of torchrun, and the state to go on from;
- `megatron_documents` exports Megatron's `.bin` and `.idx` and opens them with megatron-core's
  `IndexedDataset`, as its `GPTDataset` does.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from syllabary import lm

MARKERS = {"begin": "<|speech_start|>", "end": "<|speech_end|>"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data", type=Path, help="folder of a data set")
    parser.add_argument("--rows", default=8, type=int, help="of a batch")
    parser.add_argument("--context", default=512, type=int, help="ids of a row")
    options = parser.parse_args()
    dataset = lm.open_dataset(options.data)
    vocabulary = lm.Vocabulary(dataset.spec, first=0, codebooks=dataset.num_codebooks)

    shape = {"rows": options.rows, "context": options.context}
    batches = nanochat_batches(options.data, vocabulary, **shape)
    inputs, targets, state = next(batches)
    print(f"nanochat: inputs {tuple(inputs.shape)}, targets {tuple(targets.shape)}, {state}")
    following, _, _ = next(batches)
    again, _, _ = next(nanochat_batches(options.data, vocabulary, **shape, state=state))
    print(f"  gone on from its state, the same batch: {torch.equal(again, following)}")

    with tempfile.TemporaryDirectory() as folder:
        documents = megatron_documents(options.data, vocabulary, Path(folder, "megatron"))
        count, ids = len(documents), int(documents.sequence_lengths.sum())
        print(f"Megatron: {count} documents, {ids} ids, {documents[0].dtype}")


def nanochat_batches(
    data: Path,
    vocabulary: lm.Vocabulary,
    rows: int,
    context: int,
    device: str = "cpu",
    state: dict[str, int] | None = None,
) -> Iterator[tuple[torch.Tensor, torch.Tensor, dict[str, int]]]:
    """Yield inputs (rows, context) int32, targets (rows, context) int64, and the state after them.

    Documents follow one another, cut where a row ends. The state is one number, which is exact
    after a kill, and with another number of ranks.
    """
    reader = lm.reader(
        data,
        vocabulary=vocabulary,
        context=context,
        batch=rows,
        packing="concatenate",
        position=(state or {}).get("position", 0),
        **MARKERS,
    )
    for batch in reader:
        inputs = batch.ids.to(device=device, dtype=torch.int32, non_blocking=True)
        yield inputs, batch.targets.to(device, non_blocking=True), {"position": batch.next}


def megatron_documents(data: Path, vocabulary: lm.Vocabulary, folder: Path) -> Any:
    """Megatron's own view of the training split: (documents) of ids."""
    from megatron.core.datasets.indexed_dataset import IndexedDataset

    lm.export(data, "megatron", folder, vocabulary=vocabulary, **MARKERS)
    return IndexedDataset(str(folder / "train"))


if __name__ == "__main__":
    main()
