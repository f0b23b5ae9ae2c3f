"""The interface (`interface`, `tokens`, `spec`), the container, streaming, and the codecs."""
