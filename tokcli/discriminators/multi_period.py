"""Multi-period discriminator: convolutional networks that each read a sound at every p-th sample.

Voiced sound repeats itself. Laid out in rows of p samples, a period becomes a column, and networks for several prime
numbers p together notice what is wrong with it. Kong et al. 2020, "HiFi-GAN" (arXiv 2010.05646), §2.3.
"""

import itertools

from torch import Tensor, nn
from torch.nn import functional

from tokcli.discriminators.sounds import Norm, SoundDiscriminator, check_arguments, convolution

PERIODS = (2, 3, 5, 7, 11)
WIDTHS = (1, 4, 16, 32)
"""Channels of the layers that read a third of the rows, as multiples of the width."""


class MultiPeriodDiscriminator(SoundDiscriminator):
    """Sounds to logits at each period.

    periods: samples from one column's entry to its next; primes share the fewest samples. width: channels of the
        first layer; the last has 32 times as many, which at the published 32 makes 8 million parameters a period.
    norm: `weight` as published, or `spectral`, which bounds the slope of every convolution (arXiv 1802.05957).

    A sound's last sample is repeated to fill the last row, where the paper's code reflects, so that sounds of any
    length can be judged. Raises ValueError for an argument that does not fit.
    """

    def __init__(
        self,
        periods: list[int] = list(PERIODS),  # noqa: B006 (read only; the recipe's schema shows it)
        width: int = 32,
        norm: Norm = "weight",
    ) -> None:
        check_arguments(width, norm)
        if not periods or min(periods) < 1:
            raise ValueError(f"periods is {periods}, expected at least one number of samples, each 1 or more")
        super().__init__(PeriodJudge(period, width, norm) for period in periods)


class PeriodJudge(nn.Module):
    """One period: convolutions along the columns alone, so that phases are judged by the same weights and apart."""

    def __init__(self, period: int, width: int, norm: Norm) -> None:
        super().__init__()
        self.period = period
        widths = [1, *(width * factor for factor in WIDTHS)]
        parts: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            parts += [convolution(inputs, outputs, (5, 1), norm, stride=(3, 1)), nn.LeakyReLU(0.1)]
        parts += [convolution(widths[-1], widths[-1], (5, 1), norm), nn.LeakyReLU(0.1)]
        parts.append(convolution(widths[-1], 1, (3, 1), norm))
        self.network = nn.Sequential(*parts)

    def forward(self, sounds: Tensor) -> Tensor:
        """sounds: (batch, 1, samples) -> logits (batch, 1, rows, period).

        Rows are samples / period, divided by three four times, rounded up each time.
        """
        whole = functional.pad(sounds, (0, -sounds.shape[-1] % self.period), mode="replicate")
        return self.network(whole.unflatten(-1, (-1, self.period)))
