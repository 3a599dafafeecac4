"""The media by modality. A new modality is one more `Medium` in this table."""

from tokcli.contracts import Modality
from tokcli.data.audio.medium import AudioMedium
from tokcli.data.image.medium import ImageMedium
from tokcli.data.medium import Medium

MEDIA: dict[Modality, Medium] = {"image": ImageMedium(), "audio": AudioMedium()}
