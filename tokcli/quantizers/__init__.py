"""Quantizers: from latents to tokens and back. A new one is a file here, a line in this table, a line in its tests."""

from tokcli.contracts import Quantizer
from tokcli.quantizers.fsp import FiniteScalarPerturbation
from tokcli.quantizers.fsq import FiniteScalarQuantizer
from tokcli.quantizers.grouped import GroupedQuantizer
from tokcli.quantizers.nsvq import NoiseSubstitution
from tokcli.quantizers.residual import ResidualQuantizer
from tokcli.quantizers.simvq import SimVectorQuantizer
from tokcli.quantizers.tokenbridge import TokenBridge
from tokcli.quantizers.vaevq import VAEVectorQuantizer
from tokcli.quantizers.vpvae import VectorPerturbation
from tokcli.quantizers.vq import VectorQuantizer
from tokcli.registry import Registry

QUANTIZERS: Registry[Quantizer] = Registry(
    "quantizer",
    {
        "vq": VectorQuantizer,
        "simvq": SimVectorQuantizer,
        "fsq": FiniteScalarQuantizer,
        "fsp": FiniteScalarPerturbation,
        "tokenbridge": TokenBridge,
        "vaevq": VAEVectorQuantizer,
        "vpvae": VectorPerturbation,
        "nsvq": NoiseSubstitution,
        "residual": ResidualQuantizer,
        "grouped": GroupedQuantizer,
    },
    Quantizer,
)
