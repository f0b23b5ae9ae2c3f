"""What can be measured: tokenizers, codecs of others, references. `catalogue` finds them."""
