"""`syllabary average`: what it writes, and bad input."""

import torch

import syllabary
from syllabary.training.averaging import average_tokenizers

from .. import tiny_codecs


def test_the_command_writes_a_tokenizer(run, tmp_path):
    torch.manual_seed(0)
    pair = [tiny_codecs.rvq().eval(), tiny_codecs.rvq().eval()]
    for number, tokenizer in enumerate(pair):
        tokenizer.save_pretrained(tmp_path / str(number))
    folders = [tmp_path / "0", tmp_path / "1"]
    code, out, err = run(
        "average", *folders, "-o", tmp_path / "both", "--weights", "1,3", "--license", "MIT"
    )
    assert code == 0, err
    made, wanted = syllabary.load(tmp_path / "both"), average_tokenizers(pair, [1, 3])
    assert made.spec.tokens.tokenizer == "both" and made.spec.license == "MIT"
    assert made.spec.tokens.digest == wanted.spec.tokens.digest
    assert "both, average of 2" in out

    code, _, err = run("average", *folders, "-o", tmp_path / "both")
    assert code == 2 and "--force" in err
    code, _, err = run("average", *folders, "-o", tmp_path / "other", "--weights", "1,x")
    assert code == 2 and "expected numbers" in err
    code, _, err = run("average", folders[0], "-o", tmp_path / "other")
    assert code == 2 and "two tokenizers" in err
    assert not (tmp_path / "other").exists()
