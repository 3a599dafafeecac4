"""Audio as files and as made-up voices."""
