"""Data: where signals come from, the order in which training reads them, and how they are saved and shown.

To add a source:
    1. Write a class in a file of the modality's folder: a `Source` (see `tokcli.contracts`) with `names`, `load`,
       `protocol` and `describe`; its constructor's arguments are what a recipe may write.
    2. Give it a short name in the table below: recipes then read `kind: NAME`.
    3. Add an example to tests/data/test_contract.py, which runs the whole suite on it.

To read images or audio from an archive, write no source but a `Files`, and its line in `tokcli.data.files.ARCHIVES`:
recipes and commands then take it by its path. To add a modality: an entry in `tokcli.data.modality`.
"""

from tokcli.contracts import Source
from tokcli.data.audio.files import AudioFiles
from tokcli.data.audio.synthetic_voices import SyntheticVoices
from tokcli.data.image.dead_leaves import DeadLeaves
from tokcli.data.image.files import ImageFiles
from tokcli.registry import Registry

SOURCES: Registry[Source] = Registry(
    "data source",
    {
        "images": ImageFiles,
        "dead-leaves": DeadLeaves,
        "audio": AudioFiles,
        "synthetic-voices": SyntheticVoices,
    },
    Source,
)
