import dataclasses
from pathlib import Path

import pytest

from srgan_keras.common.errors import UserError
from srgan_keras.parts.adversarial import Logistic
from srgan_keras.parts.content import Pixels, VGGFeatures
from srgan_keras.systems import get_recipe, recipes


def test_the_tutorial_s_table():
    recipe = get_recipe("tutorial")
    settings = recipe.every_setting()
    expected = {
        "crop_size": 384, "scale": 4, "lr_range": "-1..1", "lr_rounding": True,
        "with_replacement": True, "filters": 64, "residual_blocks": 16, "upsampling": "nearest",
        "dense_units": 1024, "discriminator_head": "flatten", "batch_norm_momentum": 0.5,
        "content_loss": "block5_conv4", "vgg_preprocessing": "raw", "content_weight": 1.0,
        "adversarial_weight": 1e-3, "label_noise": 0.2, "generator_label_noise": 0.2,
        "learning_rate": 1e-4, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8,
        "batch_size": 64, "epochs": 3000, "step": "tutorial", "sample_every": 5,
        "sample_first": True, "save_every": 500,
    }  # fmt: skip
    assert {name: settings[name] for name in expected} == expected


def test_what_tutorial_fast_does_otherwise():
    letter, fast = (get_recipe(name).every_setting() for name in ("tutorial", "tutorial-fast"))
    different = {name for name in letter if letter[name] != fast[name]}
    assert different == {
        "step", "generator_label_noise", "with_replacement", "lr_rounding", "sample_every",
        "sample_first", "save_every",
    }  # fmt: skip


@pytest.mark.parametrize("name", recipes())
def test_recipes_bear_their_names_and_say_where_they_come_from(name):
    assert get_recipe(name).name == name
    for word in ("Source:", "Command:", "Hardware:", "Expected:"):
        assert word in recipes()[name].__doc__


@pytest.mark.parametrize("name", recipes())
def test_a_recipe_is_made_again_from_its_settings(name):
    changed = get_recipe(name, filters=8, seed=3, content_loss="block2_conv2", pixel_weight=0.5)
    assert get_recipe(name, **changed.every_setting()) == changed


def test_an_srgan_goes_on_where_the_srresnet_it_starts_from_ended():
    first, then = get_recipe("srresnet"), get_recipe("srgan-vgg54")
    assert first.generator == then.generator
    assert first.pairs == then.pairs
    assert (first.content, first.adversarial) == (Pixels("mse"), None)
    assert (then.content.layers, then.adversarial) == ("block5_conv4", Logistic())


def test_the_paper_s_content_losses():
    """Ledig et al. 2017, table 1: with and without a discriminator."""
    mse, vgg22, vgg54 = (get_recipe(f"srgan-{name}") for name in ("mse", "vgg22", "vgg54"))
    assert dataclasses.replace(mse, name="", content=vgg54.content) == dataclasses.replace(
        vgg54, name=""
    )
    assert mse.content == get_recipe("srresnet").content == Pixels("mse")
    assert (vgg22.content.layers, vgg54.content.layers) == ("block2_conv2", "block5_conv4")
    alone = get_recipe("srresnet-vgg22")
    assert alone.discriminator is None
    assert alone.content == vgg22.content.change(total_variation_weight=2e-8)


def test_a_setting_can_be_changed_whatever_part_it_belongs_to():
    recipe = get_recipe("demo", epochs=7, discriminator_filters=3, batch_norm_momentum=0.7)
    assert recipe.epochs == 7
    assert recipe.discriminator.filters == 3
    assert recipe.generator.filters == 64
    assert recipe.generator.batch_norm_momentum == recipe.discriminator.batch_norm_momentum == 0.7


def test_settings_choose_parts():
    recipe = get_recipe("srresnet", content_loss="block2_conv2", vgg_feature_scale=0.1)
    assert recipe.content == VGGFeatures("block2_conv2", feature_scale=0.1)
    assert get_recipe("demo", content_loss="mae").content == Pixels("mae")
    several = "0.5*block2_conv2+block5_conv4"
    assert get_recipe("srresnet", content_loss=several).content == VGGFeatures(several)
    alone = get_recipe("tutorial", adversarial_weight=0)
    assert (alone.discriminator, alone.adversarial, alone.step) == (None, None, "joint")
    assert get_recipe("srresnet", adversarial_weight=0) == get_recipe("srresnet")


@pytest.mark.parametrize(
    ("recipe", "settings"),
    [
        ("srresnet", {"label_noise": 0.1}),
        ("srresnet", {"pixel_weight": 1.0}),
        ("srresnet", {"adversarial_weight": 1e-3}),
        ("srresnet", {"critic_steps": 2}),
        ("wdrn-mse", {"discriminator_learning_rate": 1e-3}),
        ("srgan-5", {"weight_clipping": 0.01}),
        ("demo", {"adversarial_weight": 0, "dense_units": 8}),
        ("demo", {"content_loss": "mse", "vgg_feature_scale": 1.0}),
    ],
)
def test_a_setting_that_the_parts_do_not_have_is_refused(recipe, settings):
    with pytest.raises(
        UserError, match=rf"recipe {recipe} \(.*\) has no setting '{[*settings][-1]}'"
    ):
        get_recipe(recipe, **settings)


def test_the_discriminator_s_rate_takes_the_generator_s_course():
    """Its optimizer counts its own updates."""
    recipe = get_recipe("paper", learning_rate=2e-4)
    assert recipe.discriminator_optimizer() == recipe.optimizer
    recipe = get_recipe("wdrn", critic_steps=3, learning_rate_decay_steps=100)
    ours, theirs = recipe.discriminator_optimizer(), recipe.optimizer
    assert (theirs.learning_rate, theirs.decay_steps) == (1e-4, 100)
    assert (ours.learning_rate, ours.decay_steps) == (3e-4, 300)
    assert ours.beta_1 == theirs.beta_1 == 0.0
    tutorial = get_recipe("tutorial", learning_rate_drop_step=5, discriminator_learning_rate=1e-3)
    assert tutorial.discriminator_optimizer().drop_step == 10
    assert tutorial.discriminator_optimizer().learning_rate == 1e-3
    assert [x.batches_per_step for x in (get_recipe("srresnet"), tutorial, recipe)] == [1, 2, 3]


def test_settings_of_before_there_were_critic_steps_still_make_a_recipe():
    """As in a recipe.json of that time: both networks had one learning rate."""
    new = ("critic_steps", "discriminator_learning_rate")
    settings = get_recipe("srgan-vgg54", learning_rate=5e-4).every_setting()
    recipe = get_recipe("srgan-vgg54", **{k: v for k, v in settings.items() if k not in new})
    assert recipe.adversarial.critic_steps == 1
    assert recipe.discriminator_optimizer().learning_rate == 5e-4


def test_unknown_recipe():
    with pytest.raises(UserError, match=r"no recipe 'tutorail'.*tutorial, .*paper, .*demo"):
        get_recipe("tutorail")


def test_misspelt_setting():
    with pytest.raises(UserError, match=r"'crop_sise'\. Did you mean crop_size\?"):
        get_recipe("tutorial", crop_sise=96)


def test_settings_that_exclude_each_other():
    with pytest.raises(UserError, match=r"exclude each other.*Received: 80, 6"):
        get_recipe("demo", learning_rate_decay_steps=6)
    with pytest.raises(UserError, match="need each other"):
        dataclasses.replace(get_recipe("demo"), discriminator=None)
    with pytest.raises(UserError, match="step tutorial needs a discriminator"):
        get_recipe("srresnet", step="tutorial")
    for name, settings in (("demo", {"critic_steps": 2}), ("wdrn", {})):
        with pytest.raises(UserError, match="step tutorial needs the logistic loss"):
            get_recipe(name, step="tutorial", **settings)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("scale", 5),
        ("crop_size", 98),
        ("crop_size", 8),
        ("upsampling", "cubic"),
        ("content_loss", "block9_conv1"),
        ("batch_size", 0),
        ("batch_size", True),
        ("learning_rate", -1.0),
        ("learning_rate", float("nan")),
        ("label_noise", -0.1),
        ("augment", 1),
        ("epochs", "many"),
    ],
)
def test_impossible_values(setting, value):
    with pytest.raises(UserError, match=f"{setting} must be .*Received: "):
        get_recipe("tutorial", **{setting: value})


NEW_SYSTEM = '''
from dataclasses import dataclass
import keras
from srgan_keras.common.settings import Part, setting
from srgan_keras.recipe import Recipe

@dataclass(frozen=True)
class OneConvolution(Part):
    width: int = setting(5, "side of the kernel", least=1)

    def build(self, scale=4):
        lr = keras.Input((None, None, 3))
        x = keras.layers.UpSampling2D(scale, interpolation="bilinear")(lr)
        return keras.Model(lr, keras.layers.Conv2D(3, self.width, padding="same")(x))

def one_convolution():
    """Source: Command: Hardware: Expected:"""
    return Recipe(name="one-convolution", generator=OneConvolution())

RECIPES = [one_convolution]
'''


def test_a_new_file_is_a_new_system(tmp_path, monkeypatch):
    from srgan_keras import systems

    (tmp_path / "convolution.py").write_text(NEW_SYSTEM)
    monkeypatch.setattr(systems, "__path__", [*systems.__path__, str(tmp_path)])
    recipes.cache_clear()
    try:
        recipe = get_recipe("one-convolution", width=3)
        assert recipe.generator.build(4).output_shape == (None, None, None, 3)
        assert Path(systems.__path__[-1]) == tmp_path
    finally:
        recipes.cache_clear()
