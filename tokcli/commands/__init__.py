"""What each command does, as a plain function: it loads, computes, saves and returns what it made."""
