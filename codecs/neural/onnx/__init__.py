"""Export of neural codecs as ONNX graphs; each graph is one step of a stream."""
