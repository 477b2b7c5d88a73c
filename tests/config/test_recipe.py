"""Recipes: what is read, what is refused and in which words, and what is written back."""

from __future__ import annotations

import typing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from obelisk.config import Recipe, find_recipe, load_recipe, shipped_recipes
from obelisk.errors import RecipeError


@pytest.fixture
def write_recipe(tmp_path: Path):
    def write(text: str) -> str:
        path = tmp_path / "mine.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def list_keys() -> list[tuple[str, ...]]:
    """Every key of a recipe, as (key,) or (section, key)."""
    keys = []
    for name, field in Recipe.model_fields.items():
        is_section = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        keys += [(name, key) for key in field.annotation.model_fields] if is_section else [(name,)]
    return keys


def another_value(annotation: object, value: object) -> object:
    """A value of the same type that is not this one."""
    if typing.get_origin(annotation) is typing.Literal:
        return next(choice for choice in typing.get_args(annotation) if choice != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, tuple):
        kinds = {"float": 1.0, "int": 1}
        return (*value, next((one for kind, one in kinds.items() if kind in str(annotation)), "another"))
    return value + "x" if isinstance(value, str) else value + 1


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        pytest.param("[loss]\nmargn = 0.2", "unknown key `loss.margn`, did you mean `margin`?", id="key in a section"),
        pytest.param("[los]\nmargin = 0.2", "unknown key `los`, did you mean `loss`?", id="section"),
        pytest.param("sead = 1", "unknown key `sead`, did you mean `seed`?", id="key at the top"),
        pytest.param("[classifier]\nqqq = 1", "unknown key `classifier.qqq`, known here: kind, k, vote", id="far off"),
        pytest.param("[training]\nepochs = -3", "`training.epochs` = -3: ", id="below the range"),
        pytest.param(
            "[neck]\nkind = 'linea'", "`neck.kind` = 'linea': Input should be 'identity'", id="no such choice"
        ),
        pytest.param("[backbone]\nnames = []", "`backbone.names` = []: ", id="no backbone"),
        pytest.param("[backbone]\nnames = [1]", "`backbone.names.0` = 1: ", id="a number for a name"),
        pytest.param("loss = 3", "`loss` = 3: ", id="a value for a section"),
    ],
)
def test_a_mistake_is_named_with_its_key(write_recipe, lines: str, message: str) -> None:
    path = write_recipe(f'name = "mine"\n{lines}\n')
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert message in str(caught.value)
    assert path in str(caught.value)
    assert caught.value.exit_code == 2


def test_all_mistakes_are_reported_together(write_recipe) -> None:
    path = write_recipe("[loss]\nmargn = 0.2\nscale = -1.0\n[training]\npatience = 0\n[view]\ncount = 3\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert sorted(caught.value.what.split("; ")) == [
        "`loss.scale` = -1.0: Input should be greater than 0",
        "`training.patience` = 0: Input should be greater than or equal to 1",
        "missing key `name`",
        "unknown key `loss.margn`, did you mean `margin`?",
        "unknown key `view`, did you mean `views`?",
    ]


TRIPLET_PARTS = [
    "loss.kind=triplet",
    "training.photos_per_landmark=4",
    "finetuning.epochs=1",
    "finetuning.batch_size=16",
]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        pytest.param(["neck.kind=identity"], "loss.kind = 'arcface' has nothing to train", id="nothing to train"),
        pytest.param(
            ["loss.kind=none"], "neck.kind = 'linear' is trained, so loss.kind cannot be 'none'", id="no loss"
        ),
        pytest.param(["neck.kind=dense", "loss.kind=none"], "neck.kind = 'dense' is trained", id="dense, no loss"),
        pytest.param(["neck.kind=whitening"], "neck.kind = 'whitening' trains nothing", id="whitening with a loss"),
        pytest.param(
            ["loss.kind=softmax", "classifier.kind=softmax", "neck.per_backbone=true"],
            "neck.per_backbone = true trains several softmax layers",
            id="several softmax layers",
        ),
        pytest.param(["loss.kind=triplet"], "needs training.photos_per_landmark of 2 or more", id="no positive"),
        pytest.param(
            ["training.photos_per_landmark=8", "training.batch_size=4"],
            "training.batch_size is smaller than training.photos_per_landmark",
            id="batch below M",
        ),
        pytest.param(
            ["training.photos_per_landmark=8", "finetuning.batch_size=4", "finetuning.epochs=1"],
            "finetuning.batch_size is smaller than training.photos_per_landmark",
            id="batch of fine-tuning below M",
        ),
        pytest.param(
            ["training.sampling=m_per_class"],
            "needs training.photos_per_landmark of 1 or more",
            id="M per class without M",
        ),
        pytest.param(
            ["training.sampling=class_balanced", "training.photos_per_landmark=4"],
            "sampling = 'class_balanced' does not use training.photos_per_landmark = 4",
            id="M without M per class",
        ),
        pytest.param(
            ["loss.kind=multi_similarity", "loss.mining=all"],
            "loss.kind = 'multi_similarity' needs training.photos_per_landmark of 2 or more, or a loss.memory",
            id="no positive pair",
        ),
        pytest.param(
            ["loss.kind=multi_similarity", "training.photos_per_landmark=4"],
            "loss.kind = 'multi_similarity' takes pairs, not batch_hard triplets",
            id="triplets for a loss of pairs",
        ),
        pytest.param(
            ["loss.memory=1024"], "loss.memory is for pair losses, but loss.kind = 'arcface'", id="unused memory"
        ),
        pytest.param(
            ["loss.kind=triplet", "loss.memory=300"],
            "loss.memory = 300 holds less than two batches of training.batch_size = 256",
            id="memory below two batches",
        ),
        pytest.param(
            ["loss.kind=softmax", "loss.sampled_share=0.1"],
            "loss.sampled_share is for margin softmax losses, but loss.kind = 'softmax'",
            id="sampling a dense layer",
        ),
        pytest.param(
            ["loss.kind=softmax", "loss.instance=1"],
            "loss.instance goes beside margin softmax and pair losses, but loss.kind = 'softmax'",
            id="instances beside a dense layer",
        ),
        pytest.param(
            ["loss.instance=1", "views.count=0"],
            "loss.instance compares two views of each photo: set views.count to 1 or more",
            id="instances without views",
        ),
        pytest.param(
            ["loss.instance_entropy=30"],
            "loss.instance_entropy is a part of loss.instance: set that to 1, or this to 0",
            id="entropy without instances",
        ),
        pytest.param(
            ["loss.instance=1", "views.count=1", "finetuning.epochs=1", "finetuning.mixup=0.2"],
            "finetuning.mixup and finetuning.cutmix join photos that loss.instance must tell apart",
            id="mixed instances",
        ),
        pytest.param(
            [*TRIPLET_PARTS, "finetuning.micro_batches=4"],
            "finetuning.micro_batches = 4 leaves loss.kind = 'triplet' one landmark per micro-batch, "
            "so nothing to tell apart: set finetuning.batch_size to 32 or more",
            id="parts without negatives",
        ),
    ],
)
def test_combinations_that_cannot_work_are_refused(write_recipe, overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write_recipe('name = "mine"'), overrides)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param(["neck.kind=identity", "loss.kind=none"], id="the descriptor as it is"),
        pytest.param(["neck.kind=whitening", "loss.kind=none"], id="whitening alone"),
        pytest.param(["neck.kind=identity", "loss.kind=softmax"], id="a softmax layer on the descriptor"),
        pytest.param(["loss.kind=triplet", "training.photos_per_landmark=2"], id="the smallest triplet batches"),
        pytest.param(["neck.kind=dense", "loss.kind=softmax", "classifier.kind=softmax"], id="the baseline"),
        pytest.param(["loss.kind=triplet", "loss.memory=1024"], id="positives from the memory"),
        pytest.param(["training.sampling=m_per_class", "training.photos_per_landmark=4"], id="M per class by name"),
        pytest.param(["loss.kind=curricularface", "loss.sampled_share=0.1"], id="a sampled margin softmax"),
        pytest.param([*TRIPLET_PARTS, "finetuning.micro_batches=2"], id="triplets in parts of two landmarks"),
        pytest.param(["finetuning.batch_size=4", "training.photos_per_landmark=8"], id="a batch size not used"),
    ],
)
def test_combinations_that_work_are_taken(write_recipe, overrides: list[str]) -> None:
    assert load_recipe(write_recipe('name = "mine"'), overrides).name == "mine"


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        pytest.param("loss.margin=0.25", "loss", "margin", 0.25, id="number"),
        pytest.param("loss.margin = 0.25", "loss", "margin", 0.25, id="spaces around the sign"),
        pytest.param("loss.scale=64", "loss", "scale", 64.0, id="whole number for a fraction"),
        pytest.param("neck.per_backbone=true", "neck", "per_backbone", True, id="boolean"),
        pytest.param("photos.resize=crop", "photos", "resize", "crop", id="bare word"),
        pytest.param('photos.resize="crop"', "photos", "resize", "crop", id="quoted word"),
        pytest.param('backbone.names=["a", "b"]', "backbone", "names", ("a", "b"), id="list"),
        pytest.param(
            "backbone.weights=w/a=b.pth", "backbone", "weights", "w/a=b.pth", id="path with a sign of its own"
        ),
    ],
)
def test_an_override_sets_one_key(write_recipe, override: str, section: str, key: str, value: object) -> None:
    path = write_recipe('name = "mine"\n[loss]\nmargin = 0.1\n')
    changed, plain = load_recipe(path, [override]), load_recipe(path)
    assert getattr(getattr(changed, section), key) == value
    assert changed.model_copy(update={section: getattr(plain, section)}) == plain


def test_the_last_of_two_overrides_wins_and_the_top_has_keys_too(write_recipe) -> None:
    recipe = load_recipe(write_recipe('name = "mine"'), ["seed=1", "seed=7", "name=other"])
    assert (recipe.name, recipe.seed) == ("other", 7)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        pytest.param("loss.margin", "'loss.margin' is not section.key=value", id="no value"),
        pytest.param("=0.2", "'=0.2' is not section.key=value", id="no key"),
        pytest.param("loss.=0.2", "'loss.=0.2' is not section.key=value", id="no key in the section"),
        pytest.param("name.first=x", "`name` is a value, not a section", id="a key below a value"),
        pytest.param("loss.margn=0.2", "unknown key `loss.margn`, did you mean `margin`?", id="typo"),
    ],
)
def test_an_override_that_sets_nothing_is_refused(write_recipe, override: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write_recipe('name = "mine"'), [override])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "places"),
    [
        pytest.param([], "{file}", id="in the file"),
        pytest.param(["training.epochs=few"], "{file} and --set", id="in both"),
        pytest.param(["seed=1", "seed = 2"], "{file}", id="overrides are sound"),
        pytest.param(["loss.margn=0.2"], "--set", id="the file's value is overridden"),
        pytest.param(["loss={ margn = 0.2 }"], "--set", id="a whole section"),
    ],
)
def test_a_mistake_is_located_in_the_file_or_in_the_override(write_recipe, overrides: list[str], places: str) -> None:
    path = write_recipe('name = "mine"\n[loss]\nmargn = 0.1\n')
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    assert caught.value.where == places.format(file=path)


def test_a_file_that_is_not_toml_is_refused_with_the_line(write_recipe) -> None:
    with pytest.raises(RecipeError, match=r"not TOML: .*line 2") as caught:
        load_recipe(write_recipe('name = "mine"\nseed ==\n'))
    assert caught.value.where.endswith("mine.toml")


def test_a_file_that_nobody_wrote_by_hand_is_refused(write_recipe) -> None:
    with pytest.raises(RecipeError, match="not TOML"):
        load_recipe(write_recipe(f"name = {'[' * 100_000}"))
    with pytest.raises(RecipeError, match="more than 1,048,576 bytes"):
        load_recipe(write_recipe("#" * 2**21))
    with pytest.raises(RecipeError, match="and 981 more") as caught:
        load_recipe(write_recipe("".join(f"key{number} = 1\n" for number in range(1000))))
    assert len(str(caught.value)) < 5000


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b'\xef\xbb\xbfname = "mine"\n')
    assert load_recipe(str(path)).name == "mine"


@pytest.mark.parametrize("key", list_keys(), ids=".".join)
def test_the_fingerprint_changes_with_any_key(key: tuple[str, ...]) -> None:
    recipe = Recipe(name="mine")
    *sections, last = key
    holder = getattr(recipe, sections[0]) if sections else recipe
    other = another_value(type(holder).model_fields[last].annotation, getattr(holder, last))
    changed = holder.model_copy(update={last: other})
    if sections:
        changed = recipe.model_copy(update={sections[0]: changed})
    assert changed.fingerprint != recipe.fingerprint


def test_the_fingerprint_is_of_the_choices_not_of_how_they_are_written(write_recipe) -> None:
    spelled = load_recipe(write_recipe('# a remark\nseed = 0\nname = "mine"\n[loss]\nkind = "arcface"\n'))
    assert spelled.fingerprint == Recipe(name="mine").fingerprint
    assert len(spelled.fingerprint) == 16


# TOML takes no control characters in strings but those that JSON escapes, too; names are for people.
WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)


@given(
    name=WORDS,
    title=WORDS,
    seed=st.integers(0, 2**40),
    names=st.lists(WORDS, min_size=1, max_size=3),
    margin=st.floats(0, 2),
    learning_rate=st.floats(1e-12, 1e6),
    flag=st.booleans(),
)
def test_a_recipe_is_read_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    title: str,
    seed: int,
    names: list[str],
    margin: float,
    learning_rate: float,
    flag: bool,
) -> None:
    recipe = Recipe.model_validate(
        {
            "name": name,
            "title": title,
            "seed": seed,
            "backbone": {"names": names},
            "neck": {"normalize_parts": flag},
            "loss": {"margin": margin},
            "training": {"learning_rate": learning_rate},
        }
    )
    path = tmp_path_factory.mktemp("recipes") / "recipe.toml"
    path.write_text(recipe.to_toml(), encoding="utf-8")
    read = load_recipe(str(path))
    assert read == recipe
    assert read.fingerprint == recipe.fingerprint


def test_the_resolved_recipe_names_every_key() -> None:
    text = Recipe(name="mine").to_toml()
    assert [key for section, key in (key for key in list_keys() if len(key) == 2) if f"\n{key} = " not in text] == []
    assert '\n[backbone]\nnames = ["tf_efficientnet_lite0"]\nweights = "auto"\n' in text


def test_the_summary_names_what_differs_from_the_defaults(write_recipe) -> None:
    recipe = load_recipe(write_recipe('name = "mine"'), ["loss.margin=0.2", "neck.per_backbone=true", "seed=4"])
    assert recipe.summary() == {"neck.per_backbone": "true", "loss.margin": "0.2"}


@pytest.mark.parametrize("source", ["baseline_softmax", "baseline_softmax.toml", "recipes/baseline_softmax.toml"])
def test_a_shipped_recipe_is_found_by_its_name(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text, where = find_recipe(source)
    assert where == "baseline_softmax.toml"
    assert 'name = "softmax"' in text


def test_a_file_comes_before_a_shipped_recipe_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "best.toml").write_text('name = "mine"')
    assert find_recipe("best.toml") == ('name = "mine"', "best.toml")
    assert "best" in shipped_recipes()
    assert find_recipe("best")[0] != 'name = "mine"'


@pytest.mark.parametrize(
    ("source", "fix"),
    [
        pytest.param("baseline_softmx", "did you mean `baseline_softmax`?", id="typo"),
        pytest.param("zzzz", "give a file, or one of: ", id="nothing like it"),
        pytest.param("elsewhere/best.toml", "did you mean `best`?", id="a file that is not there"),
    ],
)
def test_an_unknown_recipe_is_answered_by_the_known_ones(source: str, fix: str) -> None:
    with pytest.raises(RecipeError) as caught:
        find_recipe(source)
    assert str(caught.value).startswith(f"no recipe `{source}`")
    assert caught.value.fix.startswith(fix)
