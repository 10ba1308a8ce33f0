"""SRGAN: generator and discriminator combined into the two-output model of the tutorial, and the
training step, in two versions.

Paths, command lines, distribution strategies and pictures on disk belong to others.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, metrics, ops
from keras.optimizers import LossScaleOptimizer

from srgan_keras.evaluation.metrics import PSNR, SSIM
from srgan_keras.parts.adversarial import CHANCES, choose_adversarial
from srgan_keras.training.gradients import (
    draw_uniform,
    in_parts,
    minimize,
    stateless_on_jax,
    unchanged,
)


class SRGAN(keras.Model):
    """The GAN of the tutorial: LR in, the generated picture and the discriminator's output out.

    Compiled with one loss for each output, as in the tutorial, and trained with `fit` on batches
    `(lr, hr)`:

    ```python
    gan = SRGAN(build_generator(), build_discriminator())
    gan.compile(
        optimizer=Adam(1e-4),
        loss=[VGGLoss("block5_conv4"), "binary_crossentropy"],
        loss_weights=[1.0, 1e-3],
    )
    gan.fit(batches)
    ```

    Logs, in training and in validation: `loss` (the generator's, weighted), `content_loss`,
    `adversarial_loss`, `discriminator_loss`, `d_hr` and `d_sr` (the discriminator's mean output on
    photographs and on generated pictures), `psnr` and `ssim` (on luma); and what the adversarial
    loss has of its own.

    Args:
        generator: model from `(batch, h, w, 3)` to `(batch, scale * h, scale * w, 3)`.
        discriminator: functional model from those pictures to `(batch, 1)`, a chain of layers. If
            its last layer is a sigmoid, what is in front of it is the score that the losses see;
            else its output is. None: the content loss alone trains the generator, as in an
            SRResNet; `compile` takes that one loss, and the logs are `loss`, `content_loss`, `psnr`
            and `ssim`.
        ema_momentum: float in [0, 1), momentum of an exponential moving average of the generator's
            weights, step by step. If it is not 0, `averaged_generator` has that average, and
            validation sees it; else it is `generator` itself.
        batch_statistics: whether the generator normalises with each batch's own statistics in
            training. With False it uses the moving averages that it starts with, as at inference.
            A long training needs that at its end: batch statistics hide feature maps that grow
            without bound in plain black or white, which at inference show as coloured patches.
        parts: int, in how many parts a device's batch goes through the networks, their gradients
            summed, so that large batches fit into memory. Batch statistics are a part's own.
        shift_period: int, over how many pixels pictures are shifted before the losses see them in
            training, another shift each step; 0: they are not. The generator enlarges in steps of
            2, and VGG19's poolings and the discriminator's strides reduce in such steps: where
            both always meet at the same pixels, their gradients draw a grid.
        seed: int, seed of all chance in a step, such as label noise.

    Raises:
        ValueError: if the discriminator's sigmoid is not a layer of its own.
    """

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model | None = None,
        *,
        ema_momentum: float = 0.0,
        batch_statistics: bool = True,
        parts: int = 1,
        shift_period: int = 0,
        seed: int = 0,
        name: str = "srgan",
    ) -> None:
        sr = generator(generator.input)
        outputs = [sr] if discriminator is None else [sr, discriminator(sr)]
        super().__init__(inputs=generator.input, outputs=outputs, name=name)
        self.generator = generator
        self.discriminator = discriminator
        self.ema_momentum = ema_momentum
        self.batch_statistics = batch_statistics
        self.parts = parts
        self.shift_period = shift_period
        self.seed = seed
        self.averaged_generator = generator
        if ema_momentum:
            self.averaged_generator = keras.models.clone_model(generator)
            self.averaged_generator.trainable = False
            self.averaged_generator.set_weights(generator.get_weights())
        means = ["loss", "content_loss"]
        if discriminator is not None:
            self.trunk, self.head = split_discriminator(discriminator)
            means += ["adversarial_loss", "discriminator_loss", "d_hr", "d_sr"]
        self.means = [metrics.Mean(name=mean) for mean in means]
        self.own_means = []
        self.scores = [PSNR(), SSIM()]

    def compile(
        self,
        optimizer: Any = "adam",
        loss: Any = "mean_squared_error",
        loss_weights: Sequence[float] | None = None,
        discriminator_optimizer: Any = None,
        **kwargs: Any,
    ) -> None:
        """As `keras.Model.compile`, for two networks.

        Args:
            optimizer: the generator's, as Keras takes it.
            loss: content loss and adversarial loss. The first is a Keras loss or its name, the
                second an `AdversarialLoss` or `"binary_crossentropy"`; its `weight` and
                `learning_rate` are for recipes, the arguments here hold. Without a discriminator
                the content loss alone.
            loss_weights: a weight for each; None: 1.
            discriminator_optimizer: None: one like the generator's.
            **kwargs: whatever else Keras takes, but for metrics.

        Raises:
            ValueError: if there are more or fewer losses or weights than outputs.
        """
        chosen = list(loss) if isinstance(loss, (list, tuple)) else [loss]
        weights = [1.0] * len(chosen) if loss_weights is None else list(loss_weights)
        if not len(chosen) == len(weights) == len(self.outputs):
            raise ValueError(
                f"loss and loss_weights must have {len(self.outputs)} entries, one for each output."
                f" Received: loss={loss}, loss_weights={loss_weights}"
            )
        super().compile(optimizer=optimizer, **kwargs)
        self.content_loss = keras.losses.get(chosen[0])
        self.loss_weights = weights
        # Built here because Keras skips the state of an unbuilt optimizer when it loads weights.
        self.optimizer.build(self.generator.trainable_variables)
        if self.discriminator is None:
            return
        self.adversarial_loss = choose_adversarial(chosen[1])
        self.own_means = [metrics.Mean(name=name) for name in self.adversarial_loss.logs]
        if discriminator_optimizer is None:
            discriminator_optimizer = self.optimizer.from_config(self.optimizer.get_config())
        second = keras.optimizers.get(discriminator_optimizer)
        scaled = [isinstance(x, LossScaleOptimizer) for x in (self.optimizer, second)]
        # Keras wraps the generator's for float16, and no other.
        self.discriminator_optimizer = LossScaleOptimizer(second) if scaled == [1, 0] else second
        self.discriminator_optimizer.build(self.discriminator.trainable_variables)

    @property
    def step(self) -> int:
        """The training steps that the networks have had."""
        return int(ops.convert_to_numpy(self.optimizer.iterations))

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """What the logs are made of."""
        return [*self.means, *self.own_means, *self.scores]

    @property
    def batches(self) -> int:
        """How many batches a step takes, one behind the other in `(lr, hr)`."""
        return 1 if self.discriminator is None else self.adversarial_loss.critic_steps

    @property
    def non_trainable_variables(self) -> list[keras.Variable]:
        """As of any model, with the state of the discriminator's optimizer.

        Keras' JAX trainer keeps what it finds here, and of optimizers only `self.optimizer`.
        """
        optimizer = getattr(self, "discriminator_optimizer", None)
        return super().non_trainable_variables + (optimizer.variables if optimizer else [])

    @stateless_on_jax
    def train_step(self, data: tuple[Any, Any]) -> dict[str, Any]:
        """One step: the discriminator on photographs and generated pictures, then the generator.

        With `critic_steps` above 1 the discriminator learns from as many batches, one after the
        other, and the generator from the last (Gulrajani et al. 2017, algorithm 1). The pictures
        generated of that one are made once and serve both, unless it goes through in parts: then
        the discriminator's update needs those of all parts first. The discriminator normalises with
        the batch's own statistics throughout (`training=True`).

        Args:
            data: `(lr, hr)`, `(batch, h, w, 3)` and `(batch, scale * h, scale * w, 3)` float32, of
                `batches` batches.

        Returns:
            dict of logs, of the last batch.
        """
        tensors = [ops.split(x, self.batches) for x in (*data, self.draw_chance(data[0]))]
        *others, (lr, hr, chance) = zip(*tensors, strict=True)
        for batch in others:
            self.train_discriminator_alone(*batch)
        before = {}
        if self.discriminator is not None and self.parts > 1:
            before = self.train_discriminator_alone(lr, hr, chance)

        def objective(lr, hr, chance):
            sr = self.generator(lr, training=self.batch_statistics)
            seen_hr, seen_sr = self.shift(hr), self.shift(sr)
            logs = {}
            if self.discriminator is not None and self.parts == 1:
                logs = self.train_discriminator(seen_hr, ops.stop_gradient(seen_sr), chance)
            loss, own = self.generator_loss(seen_hr, seen_sr, chance, training=True)
            return loss, ({**logs, **own}, sr)

        logs, sr = self.train_generator(objective, lr, hr, chance)
        return self.update_logs(hr, sr, {**before, **logs})

    def train_generator(self, objective: Any, lr: Any, hr: Any, chance: Any) -> Any:
        """Updates the generator, and its average; returns the second value of `objective`."""
        variables = self.generator.trainable_variables
        outputs = minimize(objective, self.optimizer, variables, (lr, hr, chance), self.parts)
        if self.ema_momentum:
            self.update_average()
        return outputs

    def train_discriminator_alone(self, lr: Any, hr: Any, chance: Any) -> dict[str, Any]:
        """As `train_discriminator`, on what the generator, which stays as it is, makes of LR."""
        with unchanged(self.generator.non_trainable_variables):
            sr = self.generate(lr, training=self.batch_statistics)
        return self.train_discriminator(self.shift(hr), self.shift(sr), chance)

    def train_discriminator(self, hr: Any, sr: Any, chance: Any) -> dict[str, Any]:
        """One update of the discriminator: photographs towards 1, generated pictures towards 0.

        Returns:
            dict of logs, one value a picture.
        """
        variables = self.discriminator.trainable_variables
        logs = minimize(
            lambda *part: self.discriminator_loss(*part, training=True),
            self.discriminator_optimizer,
            variables,
            (hr, sr, chance),
            self.parts,
        )
        self.adversarial_loss.constrain(variables)
        return logs

    def generator_loss(self, hr: Any, sr: Any, chance: Any, training: bool) -> tuple[Any, dict]:
        """The generator's loss: content and, if there is a discriminator, adversarial.

        Returns:
            (the weighted sum, dict of logs), one value a picture.
        """
        content = self.content_loss
        content = content.call if isinstance(content, keras.losses.Loss) else content
        logs = {"content_loss": per_picture(content(hr, sr))}
        loss = self.loss_weights[0] * logs["content_loss"]
        if self.discriminator is not None:
            scores = self.score(sr, training=training)
            logs["adversarial_loss"] = self.adversarial_loss.generator(scores, chance)[:, 0]
            loss += self.loss_weights[1] * logs["adversarial_loss"]
        return loss, {"loss": loss, **logs}

    def discriminator_loss(self, hr: Any, sr: Any, chance: Any, training: bool) -> tuple[Any, dict]:
        """The discriminator's loss on photographs and generated pictures.

        Each batch is normalised by itself. What follows the last normalisation takes both in one
        go; there is the dense layer, whose gradient is then made once: at 384 pixels it has 302
        million weights.

        Returns:
            as `generator_loss`.
        """
        features = [self.trunk(images, training=training) for images in (hr, sr)]
        scores = self.head(ops.concatenate(features), training=training)
        hr_scores, sr_scores = ops.split(scores, 2)
        loss, logs = self.adversarial_loss.critic(hr_scores, sr_scores, chance)
        penalty, more = self.adversarial_loss.penalty(
            lambda images: self.score(images, training=training), hr, sr, chance
        )
        loss = (loss + penalty)[:, 0]
        logs |= more | self.outputs_of(hr_scores, sr_scores)
        return loss, {"discriminator_loss": loss, **logs}

    def shift(self, images: Any) -> Any:
        """Moves pictures by this step's shift; what leaves at one side comes in at the other."""
        if not self.shift_period:
            return images
        step, period = ops.cast(self.optimizer.iterations, "int32"), self.shift_period
        return ops.roll(images, (step % period, step // period % period), axis=(1, 2))

    def score(self, images: Any, training: bool) -> Any:
        """The discriminator's scores of pictures, `(batch, 1)` float32."""
        return self.head(self.trunk(images, training=training), training=training)

    def outputs_of(self, hr_scores: Any, sr_scores: Any) -> dict[str, Any]:
        """Logs of the discriminator's outputs, one value a picture."""
        logs = {"d_hr": hr_scores[:, 0], "d_sr": sr_scores[:, 0]}
        if ends_in_sigmoid(self.discriminator):
            logs = {name: ops.sigmoid(scores) for name, scores in logs.items()}
        return logs

    def generate(self, lr: Any, training: bool) -> Any:
        """Generated pictures of a whole batch, made part by part, from which no gradient flows."""

        def function(lr):
            return [], ops.stop_gradient(self.generator(lr, training=training))

        return in_parts(function, [lr], self.parts)[1]

    def draw_chance(self, lr: Any) -> Any:
        """What the adversarial loss draws for this step, `(batch, CHANCES)` float32."""
        return draw_uniform(self.seed, self.optimizer.iterations.value, lr, CHANCES)

    def update_average(self) -> None:
        """Moves the averaged weights towards the generator's, its BN statistics among them.

        In the first steps the average follows faster, to forget the weights it started from.
        """
        step = ops.cast(self.optimizer.iterations, "float32")
        momentum = ops.minimum(self.ema_momentum, (1 + step) / (10 + step))
        pairs = zip(self.averaged_generator.weights, self.generator.weights, strict=True)
        for average, weight in pairs:
            average.assign(weight + momentum * (average - weight))

    @stateless_on_jax
    def test_step(self, data: tuple[Any, Any]) -> dict[str, Any]:
        """All that is logged in training, with the networks as at inference and without chance.

        Args:
            data: `(lr, hr)` as in `train_step`.

        Returns:
            dict of logs.
        """
        lr, hr = data
        chance = ops.zeros((ops.shape(lr)[0], CHANCES))
        sr = self.averaged_generator(lr, training=False)
        logs = self.generator_loss(hr, sr, chance, training=False)[1]
        if self.discriminator is not None:
            logs |= self.discriminator_loss(hr, sr, chance, training=False)[1]
        return self.update_logs(hr, sr, logs)

    def update_logs(self, hr: Any, sr: Any, logs: dict[str, Any]) -> dict[str, Any]:
        """Updates every metric, and returns them all."""
        for metric in [*self.means, *self.own_means]:
            metric.update_state(logs[metric.name])
        for metric in self.scores:
            metric.update_state(hr, sr)
        return self.get_metrics_result()


class TutorialSRGAN(SRGAN):
    """SRGAN with the training step of the tutorial's code, to the letter.

    `fit` takes two batches a step, one behind the other: the discriminator's and the generator's.
    """

    batches = 2

    @stateless_on_jax
    def train_step(self, data: tuple[Any, Any]) -> dict[str, Any]:
        """One step: the discriminator on photographs, then on what the generator makes of their LR
        at inference (`predict`); then the generator on a second batch.

        In that last update the discriminator normalises with the batch's own statistics, as a held
        model did in the Keras of the tutorial's time. (Today's would use its moving averages.)

        Args:
            data: `(lr, hr)` as for `SRGAN.train_step`, of two batches.

        Returns:
            dict of logs.
        """
        (lr, own_lr), (hr, own_hr) = (ops.split(images, 2) for images in data)
        chance = self.draw_chance(lr)
        loss = self.adversarial_loss
        sr = self.generate(lr, training=False)
        photographs = self.train_discriminator_on(hr, chance, loss.photographs)
        generated = self.train_discriminator_on(sr, chance, loss.generated)

        def objective(lr, hr, chance):
            sr = self.generator(lr, training=self.batch_statistics)
            loss, logs = self.generator_loss(hr, sr, chance, training=True)
            return loss, (logs, sr)

        logs, own_sr = self.train_generator(objective, own_lr, own_hr, chance)
        logs["discriminator_loss"] = 0.5 * (photographs[0] + generated[0])
        logs |= self.outputs_of(photographs[1], generated[1])
        return self.update_logs(own_hr, own_sr, logs)

    def train_discriminator_on(self, images: Any, chance: Any, loss: Any) -> tuple[Any, Any]:
        """One update of the discriminator on one kind of pictures; returns losses and scores."""

        def objective(images, chance):
            scores = self.score(images, training=True)
            losses = loss(scores, chance)[:, 0]
            return losses, (losses, scores)

        variables = self.discriminator.trainable_variables
        optimizer = self.discriminator_optimizer
        return minimize(objective, optimizer, variables, (images, chance), self.parts)


def split_discriminator(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Splits a discriminator where its pictures cease to depend on the others of their batch.

    Args:
        model: functional model, a chain of layers.

    Returns:
        two functional models of the same layers: up to the last batch normalisation, and from there
        to the score.

    Raises:
        ValueError: if its sigmoid is not a layer of its own.
    """
    last = model.layers[-1]
    if not ends_in_sigmoid(model) and "sigmoid" in str(last.get_config().get("activation")):
        raise ValueError(
            "the discriminator's sigmoid must be a layer of its own, so that its loss can be taken "
            f"from the score in front of it. Received: {last.name} with activation sigmoid"
        )
    score = last.input if ends_in_sigmoid(model) else model.output
    normalised = [model.input]
    normalised += [x.output for x in model.layers if isinstance(x, layers.BatchNormalization)]
    return keras.Model(model.input, normalised[-1]), keras.Model(normalised[-1], score)


def ends_in_sigmoid(model: keras.Model) -> bool:
    """Whether a model's last layer is a sigmoid and nothing else."""
    last = model.layers[-1]
    return isinstance(last, layers.Activation) and last.activation is keras.activations.sigmoid


def per_picture(values: Any) -> Any:
    """Means of a loss's values over all axes but the first; a single value stays one."""
    rank = len(values.shape)
    return ops.mean(values, axis=tuple(range(1, rank))) if rank else values
