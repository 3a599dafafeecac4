"""Sweeps: a table of trainings named in one YAML file, its cells, what they left on disk, and the table they make."""
