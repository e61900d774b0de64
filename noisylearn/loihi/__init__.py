"""What a Loihi chip would compute, in integers: numpy alone."""
