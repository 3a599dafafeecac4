"""A language model in the manner of nanoGPT, trained on an exported `.bin`: what it samples becomes pictures."""

import json
import pathlib

import numpy
import torch
from PIL import Image
from torch import nn
from torch.nn import functional


class Gpt(nn.Module):
    """One block of a transformer."""

    def __init__(self, vocabulary: int, block: int, width: int = 32) -> None:
        super().__init__()
        self.codes, self.places = nn.Embedding(vocabulary, width), nn.Embedding(block, width)
        self.block = nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        length = ids.shape[1]
        hidden = self.codes(ids) + self.places(torch.arange(length))
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        return self.head(self.block(hidden, src_mask=mask, is_causal=True))


def train(data: numpy.ndarray, vocabulary: int, block: int, steps: int = 60) -> tuple[Gpt, list[float]]:
    model = Gpt(vocabulary, block)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(steps):
        first = torch.randint(len(data) - block, (16,))
        window = torch.stack([torch.from_numpy(data[at : at + block + 1].astype(numpy.int64)) for at in first])
        loss = functional.cross_entropy(model(window[:, :-1]).transpose(1, 2), window[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return model, losses


@torch.no_grad()
def sample(model: Gpt, items: int, bos: int, codes: int, length: int) -> numpy.ndarray:
    """Items of `length` codes behind a bos; no special id within them."""
    ids = torch.full((items, 1), bos)
    for _ in range(length):
        logits = model(ids)[:, -1, :codes]
        ids = torch.cat([ids, torch.multinomial(logits.softmax(1), 1)], dim=1)
    return ids.numpy()


def test_a_nanogpt_like_loop_trains_samples_and_its_ids_decode(tok, tiny_run, photos: pathlib.Path) -> None:
    torch.manual_seed(0)
    assert tok("encode", photos, "-o", "t.npy", "--size", "16").code == 0
    assert tok("export", "t.npy", "--to", "bin", "--bos", "auto", "-o", "data").code == 0
    meta = json.loads(pathlib.Path("data/meta.json").read_text())
    data = numpy.memmap("data/train.bin", dtype=meta["dtype"], mode="r")
    model, losses = train(data, meta["vocabulary_size"], block=meta["ids_per_item"])
    assert losses[-1] < 0.5 * losses[0]
    drawn = sample(model, 3, meta["bos"], meta["codebook_size"], meta["ids_per_item"] - 1)
    drawn.astype(meta["dtype"]).tofile("data/samples.bin")
    imported = tok("import", "data/samples.bin", "-o", "generated.npy")
    assert imported.code == 0, imported.err
    assert tok("decode", "generated.npy", "-o", "out").code == 0
    pictures = sorted(pathlib.Path("out").iterdir())
    assert [Image.open(path).size for path in pictures] == [(16, 16)] * 3
