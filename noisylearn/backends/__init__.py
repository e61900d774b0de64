"""Beyond torch: netlists, NIR files, the integer emulator of Loihi, Lava, and what every backend is held to."""
