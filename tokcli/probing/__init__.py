"""How well tokens can be predicted: small language models trained on them, by named protocols.

token files -> sequences -> entropies and a transformer -> bits per token, per pixel, per second -> samples
"""
