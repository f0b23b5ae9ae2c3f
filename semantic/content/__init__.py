"""The content encoder: self-supervised features of speech, small, streaming, shipped trained."""
