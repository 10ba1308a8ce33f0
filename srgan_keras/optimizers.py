"""Adam with its update in one kernel.

Learning rates and their schedules are Keras' own.
"""

import keras


@keras.saving.register_keras_serializable("srgan_keras")
class FusedAdam(keras.optimizers.Adam):
    """Keras' Adam (Kingma & Ba 2015), each variable's update one fused TensorFlow operation.

    Keras' own is eleven operations a variable, each of which goes through memory: on two cores
    50 ms for the 23.6 million weights of the discriminator at 96 pixels, against 10 ms here. On
    other backends, whose compilers fuse by themselves, and with `amsgrad` it is Keras' Adam.
    """

    def apply(self, grads, trainable_variables=None):
        if keras.backend.backend() != "tensorflow":
            return super().apply(grads, trainable_variables)
        import tensorflow as tf

        # A variable that is updated while a gradient still reads it would be copied.
        with tf.control_dependencies(grads):
            return super().apply(grads, trainable_variables)

    def update_step(self, gradient, variable, learning_rate):
        if keras.backend.backend() != "tensorflow" or self.amsgrad:
            return super().update_step(gradient, variable, learning_rate)
        import tensorflow as tf

        dtype = variable.dtype
        step = tf.cast(self.iterations + 1, dtype)
        beta_1, beta_2 = tf.cast(self.beta_1, dtype), tf.cast(self.beta_2, dtype)
        index = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=beta_1**step,
            beta2_power=beta_2**step,
            lr=tf.cast(learning_rate, dtype),
            beta1=beta_1,
            beta2=beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(gradient, dtype),
        )
