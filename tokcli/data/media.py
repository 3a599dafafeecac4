"""The media by modality. A new modality is one more `Medium` in this table."""

from tokcli.data.audio_medium import AudioMedium
from tokcli.data.image_medium import ImageMedium
from tokcli.data.medium import Medium
from tokcli.types import Modality

MEDIA: dict[Modality, Medium] = {"image": ImageMedium(), "audio": AudioMedium()}
