"""How far a reader walks: the functions and files that one thing passes through, and how often it changes the file.

    python tests/benchmarks/bench_walks.py [--json FILE]

Each walk runs for real, on a tiny tokenizer that was trained for two steps, with every call to a function of the
package written down (`sys.setprofile`; comprehensions and lambdas are not counted, nor is what runs at import). A
switch is a call from a function of one file to a function of another, each pair of functions counted once. Reading
and scoring happen in this process, and the package of PESQ is a stub, so that nothing is out of sight.

Below the walks: functions of more than 50 lines, and flags of the command line that are written more than twice
(as a parameter of the command, where it is passed on, and as a parameter of what it is passed to).

It runs on any version: PYTHONPATH=OTHER/CHECKOUT python tests/benchmarks/bench_walks.py
"""

import argparse
import ast
import concurrent.futures
import contextlib
import importlib
import inspect
import io
import json
import os
import pathlib
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy
import soundfile
from PIL import Image

import tokcli

PACKAGE = pathlib.Path(tokcli.__file__).parent
LONGEST = 50

IMAGE = """name: walks
data:
  train: {kind: dead-leaves, items: 16, size: 16}
  eval: {kind: dead-leaves, items: 2, size: 16, seed: 1}
autoencoder: {kind: vqgan, latent_dim: 3, width: 4, multipliers: [1], blocks: 1, patch: 2, groups: 2}
quantizer: QUANTIZER
losses: [{kind: l1}]
training: {steps: 2, batch_size: 2, ema_decay: 0.9, workers: 0}
evaluation: {batch_size: 2, metrics: [psnr]}
"""
AUDIO = """name: sounds
data:
  train: {kind: synthetic-voices, items: 16, size: 960}
  eval: {kind: synthetic-voices, items: 2, size: 960, seed: 1}
autoencoder: {kind: spectral, latent_dim: 3, width: 8, blocks: 1, hop: 48, frame: 96}
quantizer: {kind: fsp, levels: [4, 5, 3]}
losses: [{kind: l1}]
training: {steps: 2, batch_size: 2, ema_decay: 0.9, workers: 0}
evaluation: {batch_size: 2, metrics: [si-sdr]}
"""
FSP = "{kind: fsp, levels: [4, 5, 3]}"
VQ = "{kind: vq, dim: 3, codebook_size: 20}"
VQ_EMA = "{kind: vq, dim: 3, codebook_size: 20, ema: true, restart_below: 0.5}"
VPVAE = "{kind: vpvae, dim: 3, codebook_size: 20, queue_fraction: 0.2}"

Function = tuple[str, str]


@dataclass
class Walk:
    """What was called: functions as (file, name), and each pair of a caller and what it called."""

    functions: set[Function] = field(default_factory=set)
    calls: set[tuple[Function, Function]] = field(default_factory=set)

    @property
    def files(self) -> list[str]:
        return sorted({file for file, _ in self.functions})

    @property
    def switches(self) -> int:
        return sum(caller[0] != called[0] for caller, called in self.calls)


@dataclass(frozen=True)
class Figures:
    """One line of the table."""

    walk: str
    functions: int
    files: int
    switches: int
    names: list[str]


class Recorder:
    """Writes down calls into a walk, from the moment that `starts` is true of a function until that one returns.

    starts: of (file, name within it) and the frame; None records everything at once.
    """

    def __init__(self, starts: Callable[[Function, types.FrameType], bool] | None = None) -> None:
        self.walk = Walk()
        self.starts = starts
        self.within: types.FrameType | None = None

    def __call__(self, frame: types.FrameType, event: str, argument: object) -> None:
        if event == "return" and frame is self.within:
            self.within = None
        if event != "call":
            return
        called = function_of(frame)
        if called is None or happens_at_import(frame):
            return
        if self.starts is not None and self.within is None:
            if not self.starts(called, frame):
                return
            # The last one counts: the first step of a training does what later ones do not.
            self.within, self.walk = frame, Walk()
        self.walk.functions.add(called)
        caller = nearest_caller(frame)
        if caller is not None and frame is not self.within:
            self.walk.calls.add((caller, called))


def function_of(frame: types.FrameType) -> Function | None:
    """The function of the package that a frame runs; None for anything else, the body of a class included."""
    code = frame.f_code
    if (
        not code.co_flags & inspect.CO_OPTIMIZED
        or code.co_name.startswith("<")
        or not code.co_filename.startswith(str(PACKAGE))
    ):
        return None
    return os.path.relpath(code.co_filename, PACKAGE), code.co_qualname


def happens_at_import(frame: types.FrameType) -> bool:
    """Whether a frame serves the import of a module of the package: what fills a table, makes a dataclass, ..."""
    above = frame.f_back
    while above is not None:
        if above.f_code.co_name == "<module>" and above.f_code.co_filename.startswith(str(PACKAGE)):
            return True
        above = above.f_back
    return False


def nearest_caller(frame: types.FrameType) -> Function | None:
    """The function of the package from which a frame was reached, over comprehensions and other packages."""
    above = frame.f_back
    while above is not None:
        caller = function_of(above)
        if caller is not None:
            return caller
        above = above.f_back
    return None


@contextlib.contextmanager
def recorded(recorder: Recorder) -> Iterator[None]:
    sys.setprofile(recorder)
    try:
        yield
    finally:
        sys.setprofile(None)


class Here:
    """Stands in for a pool of processes: everything is done at once, in this one."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def submit(self, function: Callable, *arguments: object) -> concurrent.futures.Future:
        done: concurrent.futures.Future = concurrent.futures.Future()
        done.set_result(function(*arguments))
        return done

    def __enter__(self) -> "Here":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def stub_processes() -> None:
    """Everything happens in this process, where it is seen."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    concurrent.futures.ProcessPoolExecutor = Here  # type: ignore[misc]
    pesq = types.ModuleType("pesq")
    pesq.pesq = lambda *_, **__: 2.0  # type: ignore[attr-defined]
    pesq.PesqError = types.SimpleNamespace(RETURN_VALUES=1)  # type: ignore[attr-defined]
    pesq.__spec__ = importlib.machinery.ModuleSpec("pesq", None)
    sys.modules["pesq"] = pesq


def tok(*arguments: object) -> None:
    """Run a command in this process, in silence."""
    from tokcli.cli.app import run

    silence = io.StringIO()
    with contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
        code = run([str(argument) for argument in arguments])
    if code:
        sys.exit(silence.getvalue())


def write_files(folder: pathlib.Path) -> None:
    """A picture, a sound, and the recipes."""
    (folder / "photos").mkdir()
    (folder / "speech").mkdir()
    generator = numpy.random.default_rng(0)
    Image.fromarray(generator.integers(0, 256, (16, 16, 3), dtype=numpy.uint8)).save(folder / "photos/a.png")
    sound = numpy.cumsum(generator.standard_normal(8000)) / 200
    soundfile.write(folder / "speech/a.wav", numpy.clip(sound, -1, 1), 16_000)
    for name, quantizer in [("fsp", FSP), ("vq", VQ), ("vq-ema", VQ_EMA), ("vpvae", VPVAE)]:
        (folder / f"{name}.yaml").write_text(IMAGE.replace("QUANTIZER", quantizer))
    (folder / "sounds.yaml").write_text(AUDIO)


def walk_encode() -> Walk:
    """The whole command, for one picture."""
    recorder = Recorder()
    with recorded(recorder):
        tok("encode", "photos", "-o", "tokens.npy", "-m", "runs/fsp", "--quiet")
    return recorder.walk


def walk_step(recipe: str) -> Walk:
    """One step of a training."""
    recorder = Recorder(lambda function, _: is_step(function))
    with recorded(recorder):
        tok("train", recipe, "--out", f"runs/step-{recipe}", "--quiet")
    return recorder.walk


def is_step(function: Function) -> bool:
    """Whether this is the function that makes one step, whatever its file is called."""
    file, name = function
    return file.startswith("training") and name.rpartition(".")[2] in ("_step", "take_step")


def walk_quantizer(recipe: str) -> Walk:
    """What the quantizer alone does in one step."""
    recorder = Recorder(lambda _, frame: is_quantizer(frame.f_back))
    with recorded(recorder):
        tok("train", recipe, "--out", f"runs/quantizer-{recipe}", "--quiet")
    return recorder.walk


def is_quantizer(frame: types.FrameType | None) -> bool:
    """Whether this is torch's call of a quantizer that is being trained."""
    if frame is None or frame.f_code.co_name != "_call_impl":
        return False
    module = frame.f_locals["self"]
    return module.training and hasattr(module, "codebook_tensors")


def walk_node() -> Walk:
    """`quantizer:` from the text of a recipe to the object; what builds the autoencoder beside it is left out."""
    from tokcli.recipe.build import build_tokenizer
    from tokcli.recipe.recipe import from_text

    text = pathlib.Path("vq.yaml").read_text()
    recorder = Recorder()
    with recorded(recorder):
        build_tokenizer(from_text(text, "vq.yaml"))
    walk = recorder.walk
    inside = {function for function in walk.functions if function[0].startswith("autoencoders")}
    return Walk(walk.functions - inside, {call for call in walk.calls if not inside & set(call)})


def walk_evaluate() -> Walk:
    """`tok eval` of recordings, the package of PESQ and its processes stubbed."""
    recorder = Recorder()
    with recorded(recorder):
        tok("eval", "runs/sounds", "--data", "speech", "--metrics", "pesq", "--json", "--quiet")
    return recorder.walk


def long_functions() -> list[str]:
    """Functions of more than 50 lines, decorators and docstring included."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1
                if lines > LONGEST:
                    found.append(f"{path.relative_to(PACKAGE)}:{node.name} ({lines})")
    return found


def repeated_flags() -> list[str]:
    """Flags that stand more than twice in one command: as its parameter, passed on, and as a parameter of the verb."""
    verbs = {**functions_in("workflows"), **functions_in("commands")}
    found = []
    for path in sorted((PACKAGE / "cli").glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
                continue
            passed = [word.arg for call in ast.walk(node) if isinstance(call, ast.Call) for word in call.keywords]
            for name in parameters(node):
                written = 1 + passed.count(name) + (name in verbs.get(node.name, ()))
                if written > 2:
                    found.append(f"{node.name} {name} ({written})")
    return found


def functions_in(folder: str) -> dict[str, list[str]]:
    """The parameters of every public function of a folder's modules, by its name."""
    return {
        node.name: parameters(node)
        for path in (PACKAGE / folder).glob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }


def parameters(function: ast.FunctionDef) -> list[str]:
    return [each.arg for each in [*function.args.args, *function.args.kwonlyargs]]


WALKS: dict[str, Callable[[], Walk]] = {
    "tok encode, whole command": walk_encode,
    "VP-VAE, one training step": lambda: walk_step("vpvae.yaml"),
    "VP-VAE, its quantizer alone": lambda: walk_quantizer("vpvae.yaml"),
    "vq, its quantizer alone": lambda: walk_quantizer("vq.yaml"),
    "vq with EMA and restarts, alone": lambda: walk_quantizer("vq-ema.yaml"),
    "quantizer: from YAML to object": walk_node,
    "tok eval of a recording, PESQ": walk_evaluate,
}


def measure() -> list[Figures]:
    """Every walk, on tokenizers trained for two steps."""
    stub_processes()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        write_files(pathlib.Path(folder))
        for recipe, run in [("fsp.yaml", "runs/fsp"), ("sounds.yaml", "runs/sounds")]:
            tok("train", recipe, "--out", run, "--quiet")
        lines = []
        for name, take in WALKS.items():
            walk = take()
            if not walk.functions:
                raise SystemExit(
                    f"{name}: nothing was recorded; does the walk still know the names of what it follows?"
                )
            lines.append(Figures(name, len(walk.functions), len(walk.files), walk.switches, walk.files))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=pathlib.Path, help="Write everything there, file names included.")
    parser.add_argument("--files", action="store_true", help="Print the names of the files too.")
    options = parser.parse_args()
    lines, long, flags = measure(), long_functions(), repeated_flags()
    if options.json:
        content = {"walks": [asdict(line) for line in lines], "long_functions": long, "repeated_flags": flags}
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    print(f"{'walk':34}{'functions':>10}{'files':>7}{'switches':>10}")
    for line in lines:
        print(f"{line.walk:34}{line.functions:>10}{line.files:>7}{line.switches:>10}")
        if options.files:
            print("    " + "  ".join(line.names))
    print(f"functions of more than {LONGEST} lines: {len(long)}  {', '.join(long)}")
    print(f"flags written more than twice: {len(flags)}  {', '.join(flags)}")


if __name__ == "__main__":
    main()
