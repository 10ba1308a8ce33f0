"""What a training step needs of a backend: gradients, and on JAX a step without side effects.

The step itself is `SRGAN.train_step`, the same for TensorFlow and JAX.
"""

import contextlib
import functools
import itertools

import keras

_scopes = []  # of the step that JAX traces: (keras.StatelessScope, all variables in it)


def minimize(compute_loss, optimizer, variables):
    """Takes one step of an optimizer down a loss.

    Args:
        compute_loss: function without arguments that returns the loss, a scalar, and whatever else
            the caller wants to have from its computation.
        optimizer: Keras optimizer, built for `variables`.
        variables: list of Keras variables, the only ones that the loss is differentiated by.

    Returns:
        what `compute_loss` returned.
    """
    if keras.backend.backend() == "jax":
        loss, more, gradients = _jax_gradients(compute_loss, optimizer, variables)
        _jax_apply(optimizer, gradients, variables)
    else:
        loss, more, gradients = _tensorflow_gradients(compute_loss, optimizer, variables)
        optimizer.apply(gradients, variables)
    return loss, more


def _tensorflow_gradients(compute_loss, optimizer, variables):
    import tensorflow as tf

    # Watching these alone keeps another network's update out of the tape, if one happens inside.
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        for variable in variables:
            tape.watch(variable.value)
        loss, more = compute_loss()
        scaled_loss = optimizer.scale_loss(loss)
    return loss, more, tape.gradient(scaled_loss, [variable.value for variable in variables])


def _jax_gradients(compute_loss, optimizer, variables):
    import jax

    scope, everything = _scopes[-1]
    before = {id(variable): scope.get_current_value(variable) for variable in everything}

    def pure(values):
        now = before | {id(v): value for v, value in zip(variables, values, strict=True)}
        with _stateless(everything, [now[id(variable)] for variable in everything]) as inner:
            loss, more = compute_loss()
            scaled_loss = optimizer.scale_loss(loss)
            after = [inner.get_current_value(variable) for variable in everything]
        return scaled_loss, (loss, more, after)

    values = [before[id(variable)] for variable in variables]
    gradients, (loss, more, after) = jax.grad(pure, has_aux=True)(values)
    for variable, value in zip(everything, after, strict=True):
        variable.assign(value)
    return loss, more, gradients


def _jax_apply(optimizer, gradients, variables):
    """As `optimizer.apply`, which for a LossScaleOptimizer would assign inside `jax.lax.cond`."""
    before = [[v.value for v in group] for group in (optimizer.variables, variables)]
    after = optimizer.stateless_apply(before[0], gradients, before[1])
    changed = [*variables, *optimizer.variables]
    for variable, value in zip(changed, itertools.chain(*after), strict=True):
        variable.assign(value)


@contextlib.contextmanager
def _stateless(variables, values):
    """Inside, variables have these values, and what is assigned to them stays in the scope."""
    with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))) as scope:
        _scopes.append((scope, variables))
        try:
            yield scope
        finally:
            _scopes.pop()


def stateless_on_jax(step):
    """Makes `step(model, data) -> logs` what Keras' trainer of the backend at hand expects.

    On JAX that is `step(model, state, data) -> (logs, state)`, where state is the values of the
    model's trainable, non-trainable, optimizer's (in training) and metrics' variables.
    """
    if keras.backend.backend() != "jax":
        return step

    @functools.wraps(step)
    def stateless_step(model, state, data):
        groups = [model.trainable_variables, model.non_trainable_variables]
        if len(state) == 4:
            groups.append(model.optimizer.variables)
        groups.append(model.metrics_variables)
        variables, values = (list(itertools.chain(*lists)) for lists in (groups, state))
        with _stateless(variables, values) as scope:
            logs = step(model, data)
            state = tuple([scope.get_current_value(v) for v in group] for group in groups)
        return logs, state

    return stateless_step
