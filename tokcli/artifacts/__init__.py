"""Trained tokenizers on disk: one safetensors file each, loaded strictly, never unpickled."""

from tokcli.artifacts.artifact import ARTIFACT_NAME, Artifact, load_artifact, read_recipe, save_artifact

__all__ = ["ARTIFACT_NAME", "Artifact", "load_artifact", "read_recipe", "save_artifact"]
