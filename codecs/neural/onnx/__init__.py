"""The same layers as ONNX graphs of one step of a stream."""
