import importlib
import re
from pathlib import Path

import pytest

import srgan_keras

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = sorted(set(re.findall(r"python -m ((?:data_prep|srgan_keras)\.\w+)", README)))


def test_public_names_are_there():
    for name in srgan_keras.__all__:
        assert getattr(srgan_keras, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = srgan_keras.nothing


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_readme_have_the_options_it_names(command, capsys):
    with pytest.raises(SystemExit) as exit_code:
        importlib.import_module(command).main(["--help"])
    assert exit_code.value.code == 0
    known = set(re.findall(r"--[\w-]+", capsys.readouterr().out))
    lines = re.findall(rf"python -m {re.escape(command)}[^`\n]*", README)
    used = {option for line in lines for option in re.findall(r"--[\w-]+", line)}
    assert used <= known


def test_the_readme_names_every_recipe_and_existing_files():
    from srgan_keras.recipes import RECIPES

    assert all(f"`{name}`" in README for name in RECIPES)
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_networks_losses_and_gan_load_without_tensorflow():
    """What must run on Keras' other backends names TensorFlow inside functions at most."""
    package = ROOT / "srgan_keras"
    names = (
        "gan", "losses", "memory", "metrics", "optimizers", "pixels", "pretrained", "recipes",
        "steps",
    )  # fmt: skip
    for path in [*(package / f"{name}.py" for name in names), *(package / "models").iterdir()]:
        if path.suffix == ".py":
            assert not re.search(r"^(import|from) tensorflow", path.read_text(), re.M), path
