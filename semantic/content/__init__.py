"""The content encoder: small, streaming, trained by self-supervision and shipped with weights."""
