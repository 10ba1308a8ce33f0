import dataclasses

import pytest

from srgan_keras.recipes import RECIPES, Recipe, get_recipe


def test_the_default_is_the_tutorial_s_table():
    recipe = get_recipe("tutorial")
    assert recipe == Recipe()
    assert (recipe.crop_size, recipe.scale, recipe.lr_range) == (384, 4, "-1..1")
    assert (recipe.filters, recipe.residual_blocks, recipe.upsampling) == (64, 16, "nearest")
    assert (recipe.dense_units, recipe.discriminator_head) == (1024, "flatten")
    assert (recipe.content_loss, recipe.vgg_preprocessing) == ("block5_conv4", "raw")
    assert (recipe.content_weight, recipe.adversarial_weight) == (1.0, 1e-3)
    adam = (recipe.learning_rate, recipe.beta_1, recipe.beta_2, recipe.epsilon)
    assert adam == (1e-4, 0.9, 0.999, 1e-8)
    assert (recipe.label_noise, recipe.batch_size, recipe.epochs) == (0.2, 64, 3000)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_bear_their_names_and_say_where_they_come_from(name):
    assert get_recipe(name).name == name
    for word in ("Source:", "Command:", "Hardware:", "Expected:"):
        assert word in RECIPES[name].__doc__


def test_an_srgan_goes_on_where_the_srresnet_it_starts_from_ended():
    first, then = get_recipe("srresnet"), get_recipe("srgan-vgg54")
    assert (first.content_loss, first.adversarial_weight) == ("mse", 0)
    assert (then.content_loss, then.adversarial_weight) == ("block5_conv4", 1e-3)
    for name in ("scale", "filters", "residual_blocks", "upsampling", "lr_range", "crop_size"):
        assert getattr(first, name) == getattr(then, name)


def test_a_setting_can_be_changed():
    assert get_recipe("demo", epochs=7) == dataclasses.replace(RECIPES["demo"](), epochs=7)


def test_unknown_recipe():
    with pytest.raises(ValueError, match=r"no recipe 'tutorail'.*tutorial, paper, .*demo"):
        get_recipe("tutorail")


def test_misspelt_setting():
    with pytest.raises(ValueError, match=r"'crop_sise'\. Did you mean crop_size\?"):
        get_recipe("tutorial", crop_sise=96)


def test_the_learning_rate_falls_in_one_way():
    with pytest.raises(ValueError, match=r"exclude each other.*Received: 300, 6"):
        get_recipe("demo", learning_rate_decay_steps=6)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("scale", 3),
        ("crop_size", 98),
        ("crop_size", 8),
        ("upsampling", "cubic"),
        ("content_loss", "block9_conv1"),
        ("batch_size", 0),
        ("learning_rate", -1.0),
        ("learning_rate", float("nan")),
        ("label_noise", -0.1),
        ("epochs", "many"),
    ],
)
def test_impossible_values(setting, value):
    with pytest.raises(ValueError, match=f"{setting} must be .*Received: "):
        get_recipe("tutorial", **{setting: value})
