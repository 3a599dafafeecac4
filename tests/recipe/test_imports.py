"""A class of somebody else's in a recipe: the user's own recipe imports it, a stranger's artifact does not."""

import pathlib
import sys
from collections.abc import Iterator

import pytest

from tokcli.errors import RecipeError
from tokcli.losses import LOSSES
from tokcli.recipe.build import build_losses, build_tokenizer
from tokcli.recipe.recipe import from_artifact, from_dict, from_text

MODULE = '''
import pathlib
from tokcli.contracts import Loss
from tokcli.quantizers.fsq import FiniteScalarQuantizer
from tokcli.schema import Positive

pathlib.Path("imported").touch()

class Finer(FiniteScalarQuantizer):
    """Another name is enough."""

class Cubic(Loss):
    def __init__(self, weight: float = 1.0, power: Positive = 3.0) -> None:
        super().__init__(weight)
        self.power = power

    def forward(self, reconstruction, reference):
        return (reconstruction - reference).abs().pow(self.power).mean()

class Unrelated:
    pass
'''
QUANTIZER = "quantizer={kind: 'theirs:Finer', levels: [4, 3, 3]}"


@pytest.fixture
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pathlib.Path]:
    """The current folder, with a module of which nothing in this process knows yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "theirs", raising=False)
    monkeypatch.delenv("TOK_ALLOW_IMPORTS", raising=False)
    (tmp_path / "theirs.py").write_text(MODULE)
    forget()
    yield tmp_path
    forget()


def forget() -> None:
    """Registries keep what they were allowed to import."""
    from tokcli.quantizers import QUANTIZERS

    for registry in (QUANTIZERS, LOSSES):
        registry._imported.clear()
    sys.modules.pop("theirs", None)


def test_a_recipe_of_the_users_builds_it_and_records_it(tiny: str, folder: pathlib.Path) -> None:
    recipe = from_text(tiny, "r.yaml", [QUANTIZER])
    assert type(build_tokenizer(recipe).quantizer).__name__ == "Finer"
    assert recipe.to_dict()["quantizer"]["kind"] == "theirs:Finer"
    assert recipe.to_dict()["quantizer"]["levels"] == [4, 3, 3]


def test_its_arguments_are_checked_like_any_others(tiny: str, folder: pathlib.Path) -> None:
    with pytest.raises(RecipeError) as caught:
        from_text(tiny, "r.yaml", ["losses=[{kind: 'theirs:Cubic', power: 0, weigth: 2}]"])
    assert str(caught.value).splitlines() == [
        "losses.0.power: expected more than 0, got 0",
        "losses.0.weigth: 'theirs:Cubic' takes no such argument; did you mean 'weight'?",
    ]


@pytest.mark.parametrize("read", [from_dict, from_artifact])
def test_a_strangers_recipe_imports_nothing(tiny: str, folder: pathlib.Path, read: object) -> None:
    content = from_text(tiny, "r.yaml", [QUANTIZER]).to_dict()
    forget()
    (folder / "imported").unlink()
    with pytest.raises(
        RecipeError, match=r"^quantizer\.kind: 'theirs:Finer' is code outside of tok.*TOK_ALLOW_IMPORTS=th"
    ):
        read(content)
    assert not (folder / "imported").exists()


@pytest.mark.parametrize("allowed", ["theirs", "other, theirs"])
def test_the_user_can_allow_a_module(
    tiny: str, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, allowed: str
) -> None:
    recipe = from_text(tiny, "r.yaml", [QUANTIZER])
    forget()
    monkeypatch.setenv("TOK_ALLOW_IMPORTS", allowed)
    again = from_artifact(recipe.to_dict())
    assert again.fingerprint() == recipe.fingerprint()
    assert type(build_tokenizer(again).quantizer).__name__ == "Finer"


def test_a_tokenizer_opens_without_the_losses_and_metrics_it_was_trained_with(tiny: str, folder: pathlib.Path) -> None:
    recipe = from_text(tiny, "r.yaml", ["losses=[{kind: 'theirs:Cubic'}]"])
    content = recipe.to_dict()
    content["evaluation"]["metrics"] = ["loveliness"]
    content["data"]["eval"] = {"kind": "holograms", "path": "x"}
    forget()
    (folder / "imported").unlink()
    opened = from_artifact(content)
    build_tokenizer(opened)
    assert opened.to_dict() == content
    assert not (folder / "imported").exists()
    with pytest.raises(RecipeError, match=r"^losses\.0\.kind: 'theirs:Cubic' is code outside of tok"):
        build_losses(opened, "image")
    with pytest.raises(RecipeError, match="there is no data source 'holograms'"):
        from_dict(content)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("nowhere_at_all:Loss", "the module 'nowhere_at_all' cannot be imported: .*run tok in its folder"),
        ("theirs:Cubik", "the module 'theirs' has no class 'Cubik'; did you mean 'Cubic'"),
        (
            "theirs:Unrelated",
            r"'theirs:Unrelated' is no loss: it does not inherit from tokcli\.contracts\.objectives\.Loss",
        ),
    ],
)
def test_what_cannot_be_used_is_explained(tiny: str, folder: pathlib.Path, kind: str, words: str) -> None:
    with pytest.raises(RecipeError, match=rf"^losses\.0\.kind: {words}"):
        from_text(tiny, "r.yaml", [f"losses=[{{kind: '{kind}'}}]"])
