"""The modalities: all that differs between images and audio outside networks, losses and metrics.

No command asks which modality it has: it takes the entry of `MODALITIES` and uses what stands there. A new modality
is one more entry, beside a folder like `data/image` that knows how to read, save and show it.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from torch import Tensor

from tokcli.contracts import ModalityName, Source
from tokcli.data.audio import decoding as audio_decoding
from tokcli.data.audio.files import AudioFiles, read_sample_rate, save_audio
from tokcli.data.audio.view import AudioView
from tokcli.data.files import FilesInFolders, RemoteFiles, find_files
from tokcli.data.image import decoding as image_decoding
from tokcli.data.image.files import ImageFiles, save_image
from tokcli.data.image.view import ImageView
from tokcli.data.view import View
from tokcli.errors import InputError, MismatchError, UsageError


@dataclass(frozen=True)
class Modality:
    """One kind of signal: what it is called, how its files are read, saved and shown, and what its figures mean.

    Attributes:
        name: What artifacts, token files and recipes call it.
        nouns: What people call one signal, and several.
        file_noun: What people call its files, in the plural.
        suffixes: Of files that can be read, lower case with the dot.
        saved_suffixes: Of files that can be written, the usual one first.
        whole: Whether commands leave files at their own size where nobody names one. Else they take the size that the
            recipe evaluates at.
        signal_metrics: What judges signals where nobody names metrics; none of them needs a file or another library.
        rate_metrics: The metrics that are its rate, packed and empirical.
        low_cvu: A codebook with a lower cvu is worth a look.
        view: How its signals are shown.
        open_source: Of paths, a size (None: each item's own) and a sample rate in Hz (of audio) makes a source.
        read_sample_rate: The rate in Hz of the first file that a path stands for; None where signals have none.
        save: Writes pieces (channels, *size) in [-1, 1] to a path whose suffix is one of `saved_suffixes`, given the
            sample rate of audio in Hz. The file appears complete or not at all; OSError where it cannot be written.
    """

    name: ModalityName
    nouns: tuple[str, str]
    file_noun: str
    suffixes: tuple[str, ...]
    saved_suffixes: tuple[str, ...]
    whole: bool
    signal_metrics: tuple[str, ...]
    rate_metrics: tuple[str, str]
    low_cvu: float
    view: View
    open_source: Callable[[Sequence[str], int | None, int | None], Source]
    read_sample_rate: Callable[[str], int | None]
    save: Callable[[Path, Iterable[Tensor], int | None], None]

    def default_size(self, evaluated: int | None) -> int | None:
        """The size that files are brought to where nobody names one, given that which the recipe evaluates at."""
        return None if self.whole else evaluated

    def choose_suffix(self, file_format: str | None = None) -> str:
        """The suffix of files in `file_format` ("wav"; None: the usual one).

        Raises:
            UsageError: Files of this modality are not written in that format.
        """
        suffix = self.saved_suffixes[0] if file_format is None else f".{file_format.lower()}"
        if suffix not in self.saved_suffixes:
            *others, last = (saved[1:] for saved in self.saved_suffixes)
            known = f"{', '.join(others)} or {last}"
            raise UsageError(f"{self.file_noun} are written as {known}, not as '{file_format}'")
        return suffix

    def strip_suffixes(self, names: Sequence[str]) -> list[str]:
        """Item names without their suffixes, to save results under; with them, where two would clash otherwise.

        Raises:
            MismatchError: A name would leave the folder it is saved in. Names come from token files, and those may
                come from strangers.
        """
        for name in names:
            if not name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise MismatchError(f"the item name {name!r} does not stay within a folder; expected a relative path")
        bare = [os.path.splitext(name)[0] if name.lower().endswith(self.suffixes) else name for name in names]
        return bare if len(set(bare)) == len(bare) else list(names)


def _open_images(paths: Sequence[str], size: int | None, sample_rate: int | None) -> Source:
    """Shorter side resized to `size`, then the centre square; whole images where it is None."""
    return ImageFiles(list(paths), size)


def _open_audio(paths: Sequence[str], size: int | None, sample_rate: int | None) -> Source:
    """The middle `size` samples of each file; whole files where it is None."""
    assert sample_rate is not None, "audio has a sample rate"
    return AudioFiles(list(paths), size, sample_rate)


IMAGE = Modality(
    name="image",
    nouns=("picture", "pictures"),
    file_noun="images",
    suffixes=image_decoding.SUFFIXES,
    saved_suffixes=(".png", ".jpg", ".webp"),
    whole=False,
    signal_metrics=("psnr", "ssim"),
    rate_metrics=("bits_per_pixel", "bits_per_pixel_empirical"),
    low_cvu=0.3,
    view=ImageView(),
    open_source=_open_images,
    read_sample_rate=lambda path: None,
    save=save_image,
)

AUDIO = Modality(
    name="audio",
    nouns=("sound", "sounds"),
    file_noun="audio files",
    suffixes=audio_decoding.SUFFIXES,
    saved_suffixes=(".wav", ".flac"),
    whole=True,  # a recipe may be evaluated on short pieces, but who names a file means all of it
    signal_metrics=("si-sdr", "mel-distance"),
    rate_metrics=("kbps", "kbps_empirical"),
    low_cvu=0.02,  # speech repeats itself: good speech tokenizers stay under 0.15
    view=AudioView(),
    open_source=_open_audio,
    read_sample_rate=read_sample_rate,
    save=save_audio,
)

MODALITIES: dict[ModalityName, Modality] = {"image": IMAGE, "audio": AUDIO}


def find_modality(path: str) -> Modality:
    """Whose files a folder, a file or a list holds. Raises InputError where it holds neither's."""
    reasons = []
    for modality in MODALITIES.values():
        try:
            find_files([path], modality.suffixes, modality.file_noun)
        except InputError as error:
            reasons.append(error)
        else:
            return modality
    raise InputError("; ".join(dict.fromkeys(map(str, reasons))))


def count_files(inputs: Sequence[str]) -> dict[ModalityName, int]:
    """How many files of each modality folders, files, patterns and lists stand for, by what their names end in.

    Only modalities that there are files of are named. Standard input can be read once, so it must not be among them.

    Raises:
        InputError: where an input is missing, or holds none of any modality.
    """
    counts = dict.fromkeys(MODALITIES, 0)
    for given in inputs:
        reasons = []
        for modality in MODALITIES.values():
            try:
                files = find_files([given], modality.suffixes, modality.file_noun)
            except InputError as error:
                reasons.append(str(error))
            else:
                # A list may name files of any kind; what an archive gives is of the kind that was asked for.
                listed = isinstance(files, FilesInFolders | RemoteFiles)
                suffixes = modality.suffixes if listed else ("",)
                counts[modality.name] += sum(name.lower().endswith(suffixes) for name in files.names)
        if len(reasons) == len(MODALITIES):
            raise InputError("; ".join(dict.fromkeys(reasons)))
    return {name: count for name, count in counts.items() if count}
