"""What compiled code stands on: vector intrinsics, threads, layers, Fourier transforms, files."""
