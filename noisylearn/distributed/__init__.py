"""Several processes on one run: what they send each other, and which of them speaks when it ends."""

from noisylearn.distributed.joining import is_alone, is_follower, joined
from noisylearn.distributed.ranks import LostRankError, RankError, Ranks, ToldError

__all__ = ["LostRankError", "RankError", "Ranks", "ToldError", "is_alone", "is_follower", "joined"]
