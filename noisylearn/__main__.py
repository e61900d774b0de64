"""`python -m noisylearn`: the command line."""

from noisylearn.cli import main

main()
