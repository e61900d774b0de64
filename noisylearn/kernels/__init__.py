"""Kernels for noisy reads and writes, in Triton on GPUs and in Numba on CPUs; plain torch is the reference."""
