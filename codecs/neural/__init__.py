"""Shared parts of the trained codecs: layers, trunks, compiled forms, streams, ONNX export."""
