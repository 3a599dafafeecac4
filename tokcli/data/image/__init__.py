"""Images as files and as made-up scenes."""
