"""Where signals come from: sources of items, the order training reads them in, and how results are saved."""

from tokcli.data.audio_files import AudioFiles
from tokcli.data.dead_leaves import DeadLeaves
from tokcli.data.image_files import ImageFiles
from tokcli.data.synthetic_voices import SyntheticVoices
from tokcli.registry import Registry
from tokcli.types import Source

SOURCES: Registry[Source] = Registry(
    "data source",
    {"images": ImageFiles, "dead-leaves": DeadLeaves, "audio": AudioFiles, "synthetic-voices": SyntheticVoices},
)
