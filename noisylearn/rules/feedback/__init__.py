"""Feedback that is learned from the differences of noisy passes: how the error at the output reaches every layer.

`regression` follows the coefficients, `direct` leads from the output to each layer, `layerwise` from layer to layer.
"""
