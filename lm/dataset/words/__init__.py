"""Words with their times, from files or by alignment, and their ids in a text tokenizer."""
