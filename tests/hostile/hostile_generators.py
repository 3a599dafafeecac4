"""Hostile input, each case a pure function of its class and number.

A class makes files in an empty folder and gives back the command that meets them. `base` is a folder with a finished
tiny run, pictures, sounds and token files, made once for all tests.
"""

import json
import os
import pathlib
import shutil
import socket
import struct
from collections.abc import Callable
from typing import Any

import numpy
from hostile_base import interrupt_work

Case = Callable[[numpy.random.Generator, pathlib.Path, pathlib.Path], list[str]]

WORDS: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    10**9,
    10**23,
    -(10**9),
    0.5,
    -0.5,
    1e308,
    1e-320,
    float("nan"),
    float("inf"),
    "",
    "x",
    "..",
    ".",
    "/",
    "a/b",
    "\0",
    "\x1b[31m",
    "é" * 300,
    "9" * 5000,
    [],
    [[]],
    [0],
    [-1],
    [1] * 50,
    {},
    {"kind": "fsq"},
    {"kind": []},
    {"kind": {"a": 1}},
    {"kind": "../x:Y"},
    {"kind": "os:system"},
    [None],
    ["\ud800"],
    "quickstart",
    "2024-13-45",
    {"": 0},
]
"""Values that stand where another was expected."""

YAML_SNIPPETS = [
    "\0",
    "\x07",
    "\x85",
    "\ufeff",
    "- " * 3000,
    "[" * 5000,
    "{" * 5000,
    "]" * 10,
    "a: &a [1]\nb: *a\n",
    "!!bool x",
    "!!python/object:os.system x",
    "0x_",
    "2024-13-45",
    "? [1]\n: 2",
    "<<: *defaults",
    "%YAML 9.9\n---\n",
    "---\n---\n",
    "'",
    '"\\xZZ"',
    "\t- x",
    "1" * 6000,
    "~",
    "|\n  x",
    "> x",
    "@x",
    "`x",
    "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
    "c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n"
    "e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\nname: [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n",
]


def pick(generator: numpy.random.Generator, values: Any) -> Any:
    """One of the values."""
    values = list(values)
    return values[int(generator.integers(len(values)))]


def mutate_bytes(generator: numpy.random.Generator, content: bytes) -> bytes:
    """Flipped, cut, doubled, overwritten or swapped pieces."""
    data = bytearray(content)
    for _ in range(int(generator.integers(1, 6))):
        if not data:
            break
        place = int(generator.integers(len(data)))
        way = int(generator.integers(7))
        length = int(generator.integers(1, 64))
        if way == 0:
            data[place] ^= 1 << int(generator.integers(8))
        elif way == 1:
            del data[place:]
        elif way == 2:
            del data[place : place + length]
        elif way == 3:
            data[place:place] = generator.bytes(length)
        elif way == 4:
            data[place : place + length] = generator.bytes(length)
        elif way == 5:
            data[place : place + 4] = struct.pack("<I", pick(generator, [0, 1, 2**31 - 1, 2**32 - 1]))
        else:
            data[place:place] = data[place : place + length]
    return bytes(data)


def mutate_tree(generator: numpy.random.Generator, value: Any) -> Any:
    """Plain JSON values with a few of them replaced, removed, renamed or doubled."""
    value = json.loads(json.dumps(value))
    for _ in range(int(generator.integers(1, 4))):
        parent, key = pick(generator, _places(value) or [(None, None)])
        if parent is None:
            return pick(generator, WORDS)
        way = int(generator.integers(5))
        if way == 0 and isinstance(parent, dict):
            del parent[key]
        elif way == 1 and isinstance(parent, dict):
            parent[str(pick(generator, ["x", "kind", "", "name", "\0", "é" * 200]))] = parent.pop(key)
        elif way == 2 and isinstance(parent, list):
            parent.extend(parent[:1] * int(generator.integers(1, 40)))
        else:
            parent[key] = pick(generator, WORDS)
    return value


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a tree."""
    places = []
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        places.append((value, key))
        places += _places(inner)
    return places


# --- recipes -----------------------------------------------------------------------------------------------------


def make_recipe(generator: numpy.random.Generator, base: pathlib.Path, folder: pathlib.Path) -> list[str]:
    """A recipe whose words, values or bytes are wrong, and overrides that are."""
    import yaml

    text = (base / "tiny.yaml").read_text()
    way = int(generator.integers(5))
    overrides: list[str] = []
    if way == 0:
        tree = mutate_tree(generator, yaml.safe_load(text.replace("1e-3", "0.001")))
        text = yaml.safe_dump(tree, allow_unicode=True)
    elif way == 1:
        content = mutate_bytes(generator, text.encode())
        (folder / "r.yaml").write_bytes(content)
        return ["train", "r.yaml", "--dry-run", "--out", "run"]
    elif way == 2:
        lines = text.splitlines()
        lines.insert(int(generator.integers(len(lines) + 1)), pick(generator, YAML_SNIPPETS))
        text = "\n".join(lines)
    elif way == 3:
        text = pick(generator, YAML_SNIPPETS)
    else:
        keys = ["name", "seed", "training.steps", "training.learning_rate", "training.workers", "training.batch_size"]
        keys += ["quantizer", "quantizer.levels", "quantizer.levels.0", "autoencoder.width", "autoencoder.latent_dim"]
        keys += ["data.train.size", "data.train.items", "evaluation.metrics", "losses", "losses.0.weight", "", "a.b.c"]
        for _ in range(int(generator.integers(1, 4))):
            value = pick(generator, WORDS)
            words = value if isinstance(value, str) else json.dumps(value)
            overrides.append(
                f"{pick(generator, keys)}={words}".replace("\0", "\x01").encode("utf-8", "replace").decode()
            )
    (folder / "r.yaml").write_text(text, encoding="utf-8", errors="replace")
    return ["train", "r.yaml", *overrides, "--dry-run", "--out", "run"]


# --- artifacts ---------------------------------------------------------------------------------------------------


def read_safetensors(path: pathlib.Path) -> tuple[dict[str, Any], bytes]:
    """The header and the tensors' bytes."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def write_safetensors(path: pathlib.Path, header: Any, tensors: bytes) -> None:
    """A file of that header, however wrong."""
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    path.write_bytes(struct.pack("<Q", len(text)) + text + tensors)


def make_artifact(generator: numpy.random.Generator, base: pathlib.Path, folder: pathlib.Path) -> list[str]:
    """An artifact whose metadata, tensors or bytes are wrong."""
    source = base / "runs" / "tiny" / "tokenizer.safetensors"
    way = int(generator.integers(5))
    target = folder / "m.safetensors"
    header, tensors = read_safetensors(source)
    metadata = header["__metadata__"]
    if way == 0:
        target.write_bytes(mutate_bytes(generator, source.read_bytes()))
    elif way == 1:
        key = pick(generator, metadata)
        metadata[key] = mutate_bytes(generator, metadata[key].encode()).decode("utf-8", "replace")
        write_safetensors(target, header, tensors)
    elif way == 2:
        key = pick(generator, [each for each in metadata if metadata[each][:1] in "{["])
        metadata[key] = json.dumps(mutate_tree(generator, json.loads(metadata[key])))
        write_safetensors(target, header, tensors)
    elif way == 3:
        key = pick(generator, metadata)
        metadata[key] = pick(
            generator, ["", "[]", "{}", "null", "NaN", "[" * 5000, "1" * 10000, '"x"', "\0", "x" * 100_000]
        )
        write_safetensors(target, header, tensors)
    else:
        name = pick(generator, [each for each in header if each != "__metadata__"])
        entry = header[name]
        change = int(generator.integers(5))
        if change == 0:
            entry["dtype"] = pick(generator, ["F64", "I64", "BOOL", "F16", "BF16", "U8"])
        elif change == 1:
            entry["shape"] = pick(generator, [[], [1], [10**9, 10**9], [0], entry["shape"][::-1]])
        elif change == 2:
            header[pick(generator, ["x", "quantizer.built.size_1000000000", name + "x"])] = header.pop(name)
        elif change == 3:
            start, stop = entry["data_offsets"]
            poison = numpy.full((stop - start) // 4, pick(generator, [numpy.nan, numpy.inf, 1e38]), "<f4").tobytes()
            tensors = tensors[:start] + poison + tensors[start + len(poison) :]
        else:
            del header[name]
        write_safetensors(target, header, tensors)
    command = pick(generator, ["info", "encode", "eval"])
    if command == "info":
        return ["info", "m.safetensors"]
    if command == "eval":
        return ["eval", "m.safetensors", "--metrics", "psnr", "--items", "2"]
    return ["encode", str(base / "photos"), "-o", "t.npy", "-m", "m.safetensors", "--size", "16"]


# --- token files -------------------------------------------------------------------------------------------------


def make_tokens(generator: numpy.random.Generator, base: pathlib.Path, folder: pathlib.Path) -> list[str]:
    """A token file of any form with a wrong header, list, tensor or byte."""
    form = pick(generator, ["t.npy", "t.safetensors", "t"])
    source, target = base / "tokens" / form, folder / form
    if source.is_dir():
        shutil.copytree(source, target)
        victim = pick(generator, sorted(path for path in target.iterdir()))
    else:
        shutil.copy(source, target)
        victim = target
        if form == "t.npy":
            shutil.copy(base / "tokens" / "t.npy.json", folder / "t.npy.json")
            victim = pick(generator, [target, folder / "t.npy.json"])
    if victim.suffix == ".json" and generator.random() < 0.7:
        victim.write_text(json.dumps(mutate_tree(generator, json.loads(victim.read_text()))))
    elif victim.suffix == ".jsonl" and generator.random() < 0.7:
        lines = victim.read_text().splitlines()
        number = int(generator.integers(len(lines)))
        lines[number] = json.dumps(mutate_tree(generator, json.loads(lines[number])))
        victim.write_text("\n".join(lines) + "\n")
    elif victim.suffix == ".safetensors" and generator.random() < 0.6:
        header, tensors = read_safetensors(victim)
        key = pick(generator, header["__metadata__"])
        text = header["__metadata__"][key]
        try:
            text = json.dumps(mutate_tree(generator, json.loads(text)))
        except ValueError:
            text = pick(generator, ["", "[]", "x", "[" * 5000])
        header["__metadata__"][key] = text
        write_safetensors(victim, header, tensors)
    else:
        victim.write_bytes(mutate_bytes(generator, victim.read_bytes()))
    if generator.random() < 0.4:
        return ["info", form]
    return ["decode", form, "-o", "out", "-m", str(base / "runs" / "tiny")]


# --- pictures and sounds -----------------------------------------------------------------------------------------


def make_pictures(generator: numpy.random.Generator, base: pathlib.Path, folder: pathlib.Path) -> list[str]:
    """Damaged pictures among good ones; lists with odd lines."""
    target = folder / "in"
    target.mkdir()
    for source in sorted((base / "odd-pictures").iterdir()):
        content = source.read_bytes()
        name = source.name
        if generator.random() < 0.5:
            content = mutate_bytes(generator, content)
        (target / name).write_bytes(content)
    if generator.random() < 0.3:
        lines = ["in/" + pick(generator, sorted(path.name for path in target.iterdir())) for _ in range(3)]
        lines += [
            pick(generator, ["a\0b.png", "n" * 300 + ".png", "..", "/", "", "\x1b[0m.png", "é.png", "in", "/dev/zero"])
        ]
        (folder / "l.txt").write_text("\n".join(lines))
        return ["encode", "l.txt", "-o", "t.safetensors", "-m", str(base / "runs" / "tiny"), "--size", "native"]
    size = pick(generator, ["16", "native", "1", "0", "-3", "100000000", "x"])
    return ["encode", "in", "-o", "t.safetensors", "-m", str(base / "runs" / "tiny"), f"--size={size}"]


def make_sounds(generator: numpy.random.Generator, base: pathlib.Path, folder: pathlib.Path) -> list[str]:
    """Damaged sounds among good ones."""
    target = folder / "in"
    target.mkdir()
    for source in sorted((base / "sounds").iterdir()):
        content = source.read_bytes()
        if generator.random() < 0.6:
            content = mutate_bytes(generator, content)
        (target / source.name).write_bytes(content)
    return ["encode", "in", "-o", "t.safetensors", "-m", str(base / "runs" / "tiny-audio")]


# --- paths, and what is at them ----------------------------------------------------------------------------------


ODD_PATHS = [
    "file.txt",
    "empty",
    "closed/x.npy",
    "loop",
    "dangling",
    "pipe.png",
    "pipe.npy",
    "socket.png",
    "n" * 300,
    "no/such/x.npy",
    "/dev/null",
    "/dev/zero",
    "/proc/self/mem",
    "/",
    ".",
    "..",
    "",
    "-",
    "x.pdf",
    "a\nb",
    "\x1b[31m.npy",
    "é" * 120 + ".npy",
    "file.txt/x.npy",
    "~",
    "$HOME",
    "x.npy/",
]
"""Of places of every kind, made by `_make_odd_places` or there already, and of none."""


def make_paths(generator: numpy.random.Generator, base: pathlib.Path, folder: pathlib.Path) -> list[str]:
    """Commands whose inputs and outputs are folders, links, pipes, devices, long names, or not there."""
    _make_odd_places(folder)
    model, photos = str(base / "runs" / "tiny"), str(base / "photos")
    path, other = pick(generator, ODD_PATHS), pick(generator, ODD_PATHS)
    commands = [
        ["encode", photos, "-o", path, "-m", model, "--size", "16"],
        ["encode", path, "-o", "t.npy", "-m", model, "--size", "16"],
        ["encode", photos, path, "-o", "t.npy", "-m", model, "--size", "16"],
        ["decode", str(base / "tokens" / "t.npy"), "-o", path, "-m", model],
        ["decode", path, "-o", "out", "-m", model],
        ["decode", path, "-o", other, "-m", model],
        ["info", path],
        ["eval", path, "--metrics", "psnr", "--items", "2"],
        ["eval", model, "--metrics", "psnr", "--items", "2", "--report", path],
        ["eval", model, "--metrics", "psnr", "--items", "2", "--sheet", path],
        ["eval", model, "--metrics", "psnr", "--data", path],
        ["train", path, "--dry-run"],
        ["train", str(base / "tiny.yaml"), "--out", path, "--dry-run"],
        ["train", str(base / "tiny.yaml"), f"data.train={{kind: images, path: '{path}'}}", "--dry-run"],
        ["train", str(base / "tiny.yaml"), "--out", "run", "--resume", path],
        ["build-codebook", path],
        ["recipes", "copy", "quickstart", "-o", path],
        ["sweep", path],
        ["bench", path, "--items", "1", "--size", "16"],
    ]
    return pick(generator, commands)


def _make_odd_places(folder: pathlib.Path) -> None:
    """Files, folders, links, pipes and a socket under the names in ODD_PATHS."""
    (folder / "file.txt").write_text("x")
    (folder / "empty").mkdir()
    (folder / "closed").mkdir(mode=0o500)
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("nowhere/x.npy")
    os.mkfifo(folder / "pipe.png")
    os.mkfifo(folder / "pipe.npy")
    with socket.socket(socket.AF_UNIX) as own:
        here = os.getcwd()
        os.chdir(folder)
        try:
            own.bind("socket.png")
        finally:
            os.chdir(here)


# --- what an interrupted command left ------------------------------------------------------------------------------


def make_leftovers(generator: numpy.random.Generator, base: pathlib.Path, folder: pathlib.Path) -> list[str]:
    """A half-done run or encode whose small files are damaged."""
    if not (base / "interrupted-encode").exists():
        interrupt_work(base)
    if generator.random() < 0.5:
        shutil.copytree(base / "interrupted-run", folder / "run")
        _damage(generator, folder / "run")
        flags = pick(generator, [[], ["--force"], ["--resume", "never"]])
        return ["train", str(base / "tiny.yaml"), "--out", "run", *flags]
    partial = folder / ".t.npy.partial"
    shutil.copytree(base / "interrupted-encode" / ".t.npy.partial", partial)
    _damage(generator, partial)
    flags = pick(generator, [["--resume"], ["--force"], []])
    photos, model = str(base / "photos"), str(base / "runs" / "tiny")
    return ["encode", photos, "-o", "t.npy", "-m", model, "--size", "16", *flags]


def _damage(generator: numpy.random.Generator, folder: pathlib.Path) -> None:
    """One file of the folder emptied, cut, mutated, removed, or turned into a folder."""
    victim = pick(generator, sorted(path for path in folder.rglob("*") if path.is_file()))
    way = int(generator.integers(6))
    if way == 0:
        victim.write_bytes(b"")
    elif way == 1:
        victim.unlink()
    elif way == 2:
        victim.unlink()
        victim.mkdir()
    elif way == 3 and victim.suffix in (".json", ".jsonl", ".yaml"):
        victim.write_text(pick(generator, ["[]", "null", "{}", "x", "\0", "[" * 5000, '{"step": "x"}\n', "1" * 6000]))
    else:
        victim.write_bytes(mutate_bytes(generator, victim.read_bytes()))


CLASSES: dict[str, Case] = {
    "recipes": make_recipe,
    "artifacts": make_artifact,
    "tokens": make_tokens,
    "pictures": make_pictures,
    "sounds": make_sounds,
    "paths": make_paths,
    "leftovers": make_leftovers,
}
