"""Where signals come from: sources of items, the order training reads them in, and how results are saved."""

from tokcli.contracts import Source
from tokcli.data.audio.files import AudioFiles
from tokcli.data.audio.synthetic_voices import SyntheticVoices
from tokcli.data.image.dead_leaves import DeadLeaves
from tokcli.data.image.files import ImageFiles
from tokcli.registry import Registry

SOURCES: Registry[Source] = Registry(
    "data source",
    {"images": ImageFiles, "dead-leaves": DeadLeaves, "audio": AudioFiles, "synthetic-voices": SyntheticVoices},
    Source,
)
