"""SRGAN: generator and discriminator combined into the two-output model of the tutorial, and the
training step.

Paths, command lines, distribution strategies and pictures on disk belong to others.
"""

import keras
from keras import layers, losses, metrics, ops
from keras.optimizers import LossScaleOptimizer

from srgan_keras.metrics import PSNR, SSIM
from srgan_keras.steps import minimize, stateless_on_jax


class SRGAN(keras.Model):
    """The GAN of the tutorial: LR in, the generated picture and the discriminator's word out.

    Compiled with one loss for each output, as in the tutorial, and trained with `fit` on batches
    `(lr, hr)`:

    ```python
    gan = SRGAN(build_generator(), build_discriminator())
    gan.compile(
        optimizer=Adam(1e-4),
        discriminator_optimizer=Adam(1e-4),
        loss=[VGGLoss("block5_conv4"), BinaryCrossentropy()],
        loss_weights=[1.0, 1e-3],
    )
    gan.fit(batches)
    ```

    Logs, in training and in validation: `loss` (the generator's, weighted), `content_loss`,
    `adversarial_loss`, `discriminator_loss`, `d_hr` and `d_sr` (the discriminator's mean output on
    photographs and on generated pictures), `psnr` and `ssim` (on luma).

    Args:
        generator: model from `(batch, h, w, 3)` to `(batch, scale * h, scale * w, 3)`.
        discriminator: functional model from those pictures to `(batch, 1)` in [0, 1], a chain of
            layers; or None: the content loss alone trains the generator, as in an SRResNet, and
            `compile` takes that one loss. Logs are then `loss`, `psnr` and `ssim`.
        label_noise: labels are 1 - U(0, label_noise) for photographs and U(0, label_noise) for
            generated pictures; the tutorial uses 0.2.
        ema_momentum: float in [0, 1), momentum of an exponential moving average of the generator's
            weights, step by step. If it is not 0, `trained_generator` has that average, and
            validation sees it; else it is `generator` itself.
        batch_statistics: whether the generator normalises with each batch's own statistics in
            training. With False it uses the moving averages that it starts with, as at inference.
            A long training needs that at its end: batch statistics hide feature maps that grow
            without bound in plain black or white, which at inference show as coloured patches.
        seed: int, seed of the label noise.
    """

    def __init__(
        self,
        generator,
        discriminator,
        *,
        label_noise=0.2,
        ema_momentum=0.0,
        batch_statistics=True,
        seed=0,
        name="srgan",
    ):
        lr = generator.input
        sr = generator(lr)
        # The outputs' names are the names of their losses in Keras' logs.
        outputs = [layers.Identity(dtype="float32", name="content")(sr)]
        if discriminator is not None:
            validity = discriminator(sr)
            outputs.append(layers.Identity(dtype="float32", name="adversarial")(validity))
        super().__init__(inputs=lr, outputs=outputs, name=name)
        self.generator = generator
        self.discriminator = discriminator
        self.ema_momentum = ema_momentum
        self.batch_statistics = batch_statistics
        self.trained_generator = generator
        if ema_momentum:
            self.trained_generator = keras.models.clone_model(generator)
            self.trained_generator.trainable = False
            self.trained_generator.set_weights(generator.get_weights())
        self.label_noise = label_noise
        self.seed = seed
        if discriminator is not None:
            self.trunk, self.head = split_after_batch_normalization(discriminator)
            self.discriminator_loss_tracker = metrics.Mean(name="discriminator_loss")
            self.d_hr_tracker = metrics.Mean(name="d_hr")
            self.d_sr_tracker = metrics.Mean(name="d_sr")
        self.psnr_tracker = PSNR()
        self.ssim_tracker = SSIM()

    def compile(self, *, discriminator_optimizer=None, **kwargs):
        """As `keras.Model.compile`, with a second optimizer, for the discriminator.

        Args:
            discriminator_optimizer: a Keras optimizer; not the generator's.
            **kwargs: `optimizer` (the generator's), `loss` (content and adversarial),
                `loss_weights` and whatever else Keras takes.
        """
        super().compile(**kwargs)
        # Built here because Keras skips the state of an unbuilt optimizer when it loads weights.
        self.optimizer.build(self.generator.trainable_variables)
        if self.discriminator is not None:
            self.discriminator_loss = losses.BinaryCrossentropy()
            optimizer = keras.optimizers.get(discriminator_optimizer)
            scaled = [isinstance(x, LossScaleOptimizer) for x in (self.optimizer, optimizer)]
            if scaled == [True, False]:  # Keras wraps the generator's for float16, and no other.
                optimizer = LossScaleOptimizer(optimizer)
            self.discriminator_optimizer = optimizer
            self.discriminator_optimizer.build(self.discriminator.trainable_variables)

    @property
    def step(self):
        """int, the training steps that the networks have had."""
        return int(ops.convert_to_numpy(self.optimizer.iterations))

    @property
    def replicas(self):
        """int, the number of replicas in training: Keras divides every loss by it."""
        strategy = getattr(self, "distribute_strategy", None)  # TensorFlow's alone
        return strategy.num_replicas_in_sync if strategy else 1

    @property
    def non_trainable_variables(self):
        """As of any model, with the state of the discriminator's optimizer.

        Keras' JAX trainer keeps what it finds here, and of optimizers only `self.optimizer`.
        """
        optimizer = getattr(self, "discriminator_optimizer", None)
        return super().non_trainable_variables + (optimizer.variables if optimizer else [])

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The generator's loss: content against the photograph, adversarial against the label 1.

        Args:
            x: not used.
            y: the photographs, `(batch, scale * h, scale * w, 3)` float32 in [-1, 1].
            y_pred: the generated pictures and the discriminator's word on them.
            sample_weight: None.
            training: not used.

        Returns:
            the weighted sum, a float32 scalar (divided by the number of replicas, as Keras does).
        """
        sr, *validity = keras.tree.flatten(y_pred)
        targets = [y, *map(ops.ones_like, validity)]
        return super().compute_loss(x, targets, [sr, *validity], sample_weight, training)

    @stateless_on_jax
    def train_step(self, data):
        """One step: the discriminator on photographs and generated pictures, then the generator.

        The generated pictures are made once and serve both. The discriminator normalises with the
        batch's own statistics throughout (`training=True`).

        Args:
            data: `(lr, hr)`, `(batch, h, w, 3)` and `(batch, scale * h, scale * w, 3)` float32.

        Returns:
            dict of logs.
        """
        lr, hr = data

        def compute_loss():
            sr = self.generator(lr, training=self.batch_statistics)
            outputs, judgement = [sr], []
            if self.discriminator is not None:
                judgement = self.train_discriminator(hr, ops.stop_gradient(sr))
                outputs.append(self.discriminator(sr, training=True))
            return self.compute_loss(lr, hr, outputs), (sr, judgement)

        variables = self.generator.trainable_variables
        loss, (sr, judgement) = minimize(compute_loss, self.optimizer, variables)
        if self.ema_momentum:
            self.update_average()
        return self.update_logs(hr, sr, loss, *judgement)

    def update_average(self):
        """Moves the averaged weights towards the generator's, its BN statistics among them.

        In the first steps the average follows faster, to forget the weights it started from.
        """
        step = ops.cast(self.optimizer.iterations, "float32")
        momentum = ops.minimum(self.ema_momentum, (1 + step) / (10 + step))
        pairs = zip(self.trained_generator.weights, self.generator.weights, strict=True)
        for average, weight in pairs:
            average.assign(weight + momentum * (average - weight))

    def train_discriminator(self, hr, sr):
        """One discriminator update: photographs towards 1, generated pictures towards 0.

        Returns:
            the discriminator's loss and its outputs, as from `judge`.
        """
        noise = self.draw_label_noise(ops.shape(hr)[0])

        def compute_loss():
            validity = self.judge(hr, sr, training=True)
            return self.compute_discriminator_loss(validity, noise), validity

        variables = self.discriminator.trainable_variables
        return minimize(compute_loss, self.discriminator_optimizer, variables)

    def judge(self, hr, sr, training):
        """Returns the discriminator's outputs on photographs, then on generated pictures.

        Each batch is normalised by itself. What follows the last normalisation takes both in one
        go; there is the dense layer, whose gradient is then made once: at 384 pixels it has 302
        million weights.

        Returns:
            `(2 * batch, 1)` float32 in [0, 1].
        """
        features = [self.trunk(images, training=training) for images in (hr, sr)]
        return self.head(ops.concatenate(features), training=training)

    def compute_discriminator_loss(self, validity, noise=0.0):
        """Binary cross-entropy of photographs (label 1) and generated pictures (label 0).

        Args:
            validity: `(2 * batch, 1)`, as from `judge`.
            noise: how far the labels are off, likewise.
        """
        half = ops.ones_like(validity[: ops.shape(validity)[0] // 2])
        labels = ops.concatenate([half, ops.zeros_like(half)])
        return self.discriminator_loss(ops.abs(labels - noise), validity)

    @stateless_on_jax
    def test_step(self, data):
        """All that is logged in training, with the networks as they are at inference.

        Args:
            data: `(lr, hr)` as in `train_step`.

        Returns:
            dict of logs.
        """
        lr, hr = data
        sr = self.trained_generator(lr, training=False)
        outputs, judgement = [sr], []
        if self.discriminator is not None:
            validity = self.judge(hr, sr, training=False)
            outputs.append(self.discriminator(sr, training=False))
            judgement = [self.compute_discriminator_loss(validity), validity]
        loss = self.compute_loss(lr, hr, outputs, training=False)
        return self.update_logs(hr, sr, loss, *judgement)

    def update_logs(self, hr, sr, loss, discriminator_loss=None, validity=None):
        """Updates every metric that `compute_loss` has not, and returns them all."""
        for metric in self.metrics:
            # Without a discriminator there is one loss, which Keras has no name of its own for.
            if metric.name == "loss":
                metric.update_state(loss * self.replicas)
        if self.discriminator is not None:
            self.discriminator_loss_tracker.update_state(discriminator_loss * self.replicas)
            d_hr, d_sr = ops.split(validity, 2)
            self.d_hr_tracker.update_state(d_hr)
            self.d_sr_tracker.update_state(d_sr)
        self.psnr_tracker.update_state(hr, sr)
        self.ssim_tracker.update_state(hr, sr)
        return self.get_metrics_result()

    def draw_label_noise(self, batch_size):
        """Draws U(0, label_noise) for this replica's photographs and generated pictures.

        The draw depends on the seed and the step alone: a resumed run repeats an uninterrupted
        one, and replicas share out what one device would draw for the whole batch.

        Returns:
            `(2 * batch_size, 1)` float32, photographs first.
        """
        if keras.backend.backend() == "jax":
            import jax

            key = jax.random.fold_in(jax.random.key(self.seed), self.optimizer.iterations.value)
            return jax.random.uniform(key, (2 * batch_size, 1), maxval=self.label_noise)
        import tensorflow as tf

        replica = tf.distribute.get_replica_context()
        seed = [self.seed, ops.cast(self.optimizer.iterations, "int32")]
        shape = (2, replica.num_replicas_in_sync * batch_size, 1)
        noise = tf.random.stateless_uniform(shape, seed, 0.0, self.label_noise)
        first = replica.replica_id_in_sync_group * batch_size
        return tf.reshape(noise[:, first : first + batch_size], (-1, 1))


def split_after_batch_normalization(model):
    """Splits a network where its pictures cease to depend on the others of their batch.

    Args:
        model: functional model, a chain of layers.

    Returns:
        two functional models of the same layers; the second takes what the first gives.
    """
    normalised = [model.input]
    normalised += [x.output for x in model.layers if isinstance(x, layers.BatchNormalization)]
    return keras.Model(model.input, normalised[-1]), keras.Model(normalised[-1], model.output)
