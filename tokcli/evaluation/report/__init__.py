"""One self-contained page about several tokenizers: tables, charts, and what became of the same items in each."""
