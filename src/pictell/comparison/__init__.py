"""The parts of `pictell.compare`: who is compared, what they cost, what the numbers settle."""
