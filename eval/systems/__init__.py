"""Systems under test: tokenizers, other codecs, references. `catalogue` finds them."""
