"""Trained tokenizers on disk: one safetensors file each, loaded strictly, never unpickled."""

from tokcli.artifacts.artifact import Artifact, load_artifact, read_recipe, save_artifact

__all__ = ["Artifact", "load_artifact", "read_recipe", "save_artifact"]
