"""Kernels for GPUs, in Triton: noisy reads and writes in one pass over memory; plain torch is the reference."""
