"""The studies: a module for every published figure or table, or for several that are measured alike."""
