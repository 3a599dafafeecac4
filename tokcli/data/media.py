"""The media by modality. A new modality is one more `Medium` in this table."""

from tokcli.contracts import ModalityName
from tokcli.data.audio.medium import AudioMedium
from tokcli.data.image.medium import ImageMedium
from tokcli.data.medium import Medium

MEDIA: dict[ModalityName, Medium] = {"image": ImageMedium(), "audio": AudioMedium()}
