"""A tokenizer: an autoencoder with a quantizer between its encoder and its decoder.

    signal --pad--> encode --> latents --> quantize --> tokens
    signal <-crop-- decode <-- latents <- dequantize <- tokens

Training goes through `forward`; everything that a user keeps goes through `encode` and `decode`, which run in full
float32 so that the same signal gives the same tokens everywhere.

Where the autoencoder has a window, a longer signal is computed window by window, each with the context that its
positions depend on. The windows are the same whichever way the signal comes: whole, or in blocks through
`encode_stream` and `decode_stream`, which hold one window at a time.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tokcli.contracts import Autoencoder, Codec, ModalityName, Pass, Quantized, Quantizer, RoundTrip, Stream
from tokcli.errors import InputError, RecipeError, UsageError
from tokcli.numerics import exact_float32
from tokcli.quantizers.composite import CompositeQuantizer
from tokcli.windows import Echo, Layout, Window, crop, encode_window, encode_windows, pad


@dataclass(frozen=True)
class Reconstructed:
    """What training sees of a tokenizer.

    Attributes:
        reconstructions: one signal (batch, channels, *size) for each set of latents that the quantizer wants decoded;
            the first is the quantized one.
        quantized: the quantizer's own output, with its loss.
    """

    reconstructions: tuple[Tensor, ...]
    quantized: Quantized


class Tokenizer(nn.Module, Codec):
    """Signals (batch, channels, *size) in [-1, 1] to tokens (batch, *grid, groups) and back, for any size.

    Args:
        autoencoder: signals to latents and back.
        quantizer: latents to tokens and back.
        groups: how many of the quantizer's first groups it encodes to; None: all of them.

    Raises:
        RecipeError: where the widths of the two parts do not meet.
        UsageError: where so many groups cannot be decoded.
    """

    def __init__(self, autoencoder: Autoencoder, quantizer: Quantizer, groups: int | None = None) -> None:
        super().__init__()
        if groups is not None and groups not in quantizer.prefixes:
            known = ", ".join(map(str, quantizer.prefixes))
            raise UsageError(f"--groups: this tokenizer has tokens of {known} groups at a position, got {groups}")
        self._groups = groups
        problems = find_width_problems(autoencoder, quantizer)
        if problems:
            raise RecipeError("\n".join(problems))
        self.autoencoder = autoencoder
        self.quantizer = quantizer

    @property
    def modality(self) -> ModalityName:
        """What the signals are."""
        return self.autoencoder.modality

    @property
    def sample_rate(self) -> int | None:
        """Of audio, in Hz; None for images."""
        return self.autoencoder.sample_rate

    @property
    def channels(self) -> int:
        """Of the signal."""
        return self.autoencoder.channels

    @property
    def codebook_size(self) -> int:
        """The values that a token can take."""
        return self.quantizer.codebook_size

    @property
    def groups(self) -> int:
        """Tokens per position."""
        return self.quantizer.groups if self._groups is None else self._groups

    @property
    def prefixes(self) -> tuple[int, ...]:
        """How many of the first groups can be decoded without the others."""
        return tuple(number for number in self.quantizer.prefixes if number <= self.groups)

    def with_groups(self, groups: int) -> "Tokenizer":
        """A tokenizer of the same parts that encodes to the first groups alone.

        Raises UsageError where so many cannot be decoded.
        """
        return Tokenizer(self.autoencoder, self.quantizer, groups).train(self.training)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.autoencoder.parameters()).device

    @property
    def streams(self) -> bool:
        """Whether the methods that take or give a signal in pieces can be called."""
        return self.autoencoder.window is not None

    @property
    def layout(self) -> Layout:
        """What is computed at a time of a long signal, positions counted along its first axis."""
        return Layout(self.autoencoder.window, self.autoencoder.context)

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """The positions that a signal of `size` samples takes, incomplete ones included."""
        return tuple(-(-length // self.autoencoder.stride) for length in size)

    def cover(self, grid: Sequence[int]) -> tuple[int, ...]:
        """The samples along each axis that so many positions stand for."""
        return tuple(positions * self.autoencoder.stride for positions in grid)

    def forward(self, signals: Tensor) -> Reconstructed:
        """signals: (batch, channels, *size) -> reconstructions of the same shape, differentiable."""
        quantized = self.quantizer(self.autoencoder.encode(pad(signals, self.autoencoder.stride)))
        branches = (quantized.latents, *quantized.alternatives)
        decoded = self.autoencoder.decode(torch.cat(branches) if len(branches) > 1 else branches[0])
        return Reconstructed(crop(decoded, signals.shape[2:]).chunk(len(branches)), quantized)

    @torch.no_grad()
    def latents(self, signals: Tensor) -> Tensor:
        """signals: (batch, channels, *size) -> latents (batch, *grid, latent_dim) float32, before quantization.

        On a CPU signals are encoded one by one: convolution kernels are picked by the size of the batch and differ in
        the last bits, so that a batch would now and then give another token than its items alone.
        """
        with exact_float32(signals.device):
            padded = pad(signals.float(), self.autoencoder.stride).contiguous()
            batches = padded.split(1) if padded.device.type == "cpu" else [padded]
            stride, encode = self.autoencoder.stride, self.autoencoder.encode
            return torch.cat([encode_windows(encode, batch, self.layout, stride) for batch in batches])

    @torch.no_grad()
    def encode(self, signals: Tensor) -> Tensor:
        """signals: (batch, channels, *size) -> tokens (batch, *grid, groups) int64."""
        with exact_float32(signals.device):
            latents = self.latents(signals)
            pieces = latents.split(self.layout.length or latents.shape[1], dim=1)
            return torch.cat([self.quantizer.quantize(piece)[..., : self.groups] for piece in pieces], dim=1)

    @torch.no_grad()
    def encode_stream(self, blocks: Iterable[Tensor]) -> Tensor:
        """blocks: (channels, samples) of any lengths, in order -> tokens (positions, groups), to the bit as `encode`.

        Raises InputError where there is no sample at all.
        """
        tokens = list(self._tokens_of(blocks))
        if not tokens:
            raise InputError("there is no sample to encode; expected at least one")
        return torch.cat(tokens)

    @torch.no_grad()
    def latents_stream(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """blocks: (channels, samples) -> pieces (positions, latent_dim) that make up, to the bit, `latents`."""
        stride = self.autoencoder.stride
        for signal, window in self.layout.gather(blocks, stride):
            with exact_float32(self.device):
                padded = pad(signal[None].to(self.device, torch.float32), stride)
                latents = encode_window(self.autoencoder.encode, padded, window)[0]
            yield latents

    @torch.no_grad()
    def decode(self, tokens: Tensor, size: Sequence[int]) -> Tensor:
        """tokens: (batch, *grid, groups) -> signals (batch, channels, *size), cropped to `size` samples."""
        windows = self.layout.windows(tokens.shape[1])
        pieces = [self._decode_window(tokens[:, window.first : window.last], window) for window in windows]
        return crop(torch.cat(pieces, dim=2), size)

    @torch.no_grad()
    def decode_stream(self, tokens: Tensor, size: Sequence[int]) -> Iterator[Tensor]:
        """tokens: (positions, groups) -> pieces (channels, samples), in order, that make up what `decode` gives."""
        (remaining,) = size
        for window in self.layout.windows(len(tokens)):
            piece = self._decode_window(tokens[None, window.first : window.last], window)[0, :, :remaining]
            remaining -= piece.shape[1]
            yield piece

    def decode_latents(self, latents: Tensor, size: Sequence[int]) -> Tensor:
        """latents: (batch, *grid, decoder_dim) -> signals (batch, channels, *size), differentiable."""
        return crop(self.autoencoder.decode(latents), size)

    def embed(self, tokens: Tensor) -> Tensor:
        """tokens: (batch, *grid, groups) -> the latents that they stand for, (batch, *grid, decoder_dim)."""
        return self.quantizer.dequantize(tokens)

    def bare_encoding(self, signals: Tensor) -> Pass:
        """The encoder, on signals (items, channels, *size) that need no padding any more."""
        return Pass(self.autoencoder.encode, pad(signals, self.autoencoder.stride))

    def bare_decoding(self, tokens: Tensor) -> Pass:
        """The decoder, on the latents that these tokens (items, *grid, groups) stand for."""
        return Pass(self.autoencoder.decode, self.quantizer.dequantize(tokens))

    @torch.no_grad()
    def round_trip_parts(self, stream: Stream) -> Iterator[RoundTrip]:
        """A part for each window, which make up what `round_trip` gives of the whole signal, to the bit."""
        if not self.streams:
            yield from super().round_trip_parts(stream)
            return
        signal, sample_rate = Echo(stream.blocks()), self.autoencoder.sample_rate
        tokens = (piece.T for piece in self._tokens_of(signal))
        for gathered, window in self.layout.gather(tokens, 1):
            held = gathered.T.contiguous()[None]
            decoded = self._decode_window(held, window)
            reference = signal.take(decoded.shape[2])[None].to(self.device)
            reconstruction = crop(decoded, reference.shape[2:])
            yield RoundTrip(reference, reconstruction, held[:, window.kept], self.codebook_size, sample_rate)

    def _tokens_of(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """blocks: (channels, samples) -> pieces (positions, groups) that make up what `encode` gives."""
        for latents in self.latents_stream(blocks):
            with exact_float32(self.device):
                tokens = self.quantizer.quantize(latents[None])[0, ..., : self.groups]
            yield tokens

    def _decode_window(self, tokens: Tensor, window: Window) -> Tensor:
        """The window's tokens (batch, *grid, groups) -> its signals (batch, channels, *size), of whole positions."""
        with exact_float32(tokens.device):
            latents = self.quantizer.dequantize(tokens)
            signals = self.autoencoder.decode(latents).float()
        return signals[:, :, window.kept_samples(self.autoencoder.stride)]


def find_width_problems(autoencoder: Autoencoder, quantizer: Quantizer) -> list[str]:
    """What does not fit between the two parts, in the words of a recipe."""
    problems = []
    follows = autoencoder.decoder_dim == autoencoder.latent_dim and quantizer.dim == quantizer.input_dim
    if follows and autoencoder.latent_dim != quantizer.input_dim:  # one cause, be it two widths
        given, read = autoencoder.latent_dim, quantizer.input_dim
        other = f"set quantizer.dim={given}" if "dim" in quantizer.arguments else f"give the quantizer {given} levels"
        if isinstance(quantizer, CompositeQuantizer) and "dim" not in quantizer.arguments:
            other = "give quantizer.of another width"
        return [
            f"autoencoder.latent_dim: the encoder gives {given} channels, but the quantizer reads {read}; "
            f"set autoencoder.latent_dim={read}, or {other}"
        ]
    if autoencoder.latent_dim != quantizer.input_dim:
        problems.append(
            f"autoencoder.latent_dim: the encoder gives {autoencoder.latent_dim} channels, "
            f"but the quantizer reads {quantizer.input_dim}; set autoencoder.latent_dim={quantizer.input_dim}"
        )
    if autoencoder.decoder_dim != quantizer.dim:
        problems.append(
            f"autoencoder.decoder_dim: the decoder reads {autoencoder.decoder_dim} channels, "
            f"but the quantizer gives {quantizer.dim}; set autoencoder.decoder_dim={quantizer.dim}"
        )
    return problems
