"""How passes over a placed network run: stacked along the batch, or played back as CUDA graphs."""
