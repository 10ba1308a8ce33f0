"""What a training step needs of a backend: gradients, batches in parts, chance, and on JAX a step
without side effects.

The steps themselves are in `gan`, the same for TensorFlow and JAX.
"""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
from keras import ops

_scopes = []  # of the step that JAX traces: (keras.StatelessScope, all variables in it)


def minimize(
    objective: Callable,
    optimizer: keras.optimizers.Optimizer,
    variables: list[keras.Variable],
    batch: Sequence[Any] = (),
    parts: int = 1,
) -> Any:
    """Takes one step of an optimizer down the mean of a loss over a batch.

    Args:
        objective: function of the tensors of a batch that returns the loss, one value a picture,
            and whatever else the caller wants to have from its computation, one row a picture.
        optimizer: Keras optimizer, built for `variables`.
        variables: list of Keras variables, the only ones that the loss is differentiated by.
        batch: tensors with a row for each picture.
        parts: int, in how many parts, one after the other, the batch goes through `objective`.
            Their gradients are summed before the one step.

    Returns:
        the second value of `objective`.
    """
    on_jax = keras.backend.backend() == "jax"
    gradients_of = _jax_gradients if on_jax else _tensorflow_gradients

    def function(*part):
        gradients, outputs = gradients_of(lambda: objective(*part), optimizer, variables)
        return [gradient / parts for gradient in gradients] if parts > 1 else gradients, outputs

    gradients, outputs = in_parts(function, batch, parts)
    if on_jax:
        _jax_apply(optimizer, gradients, variables)
    else:
        optimizer.apply(gradients, variables)
    return outputs


def mean_over_devices(values: Any) -> Any:
    """Returns this device's share of the mean over a whole batch: TensorFlow adds the shares up.

    Args:
        values: one value a picture of this device.
    """
    return ops.mean(values) / _replicas()[0]


def _replicas() -> tuple[int, Any]:
    """The number of devices with a part of the batch each, and which of them this is."""
    if keras.backend.backend() == "jax":
        return 1, 0  # JAX itself spreads the whole batch.
    import tensorflow as tf

    replica = tf.distribute.get_replica_context()
    return replica.num_replicas_in_sync, replica.replica_id_in_sync_group


def draw_uniform(seed: int, step: Any, pictures: Any, count: int) -> Any:
    """Draws U(0, 1), for each picture of this device.

    The draw depends on the seed and the step alone: a resumed run repeats an uninterrupted one, and
    devices share out what one device would draw for the whole batch.

    Args:
        seed: int.
        step: int tensor, the training step.
        pictures: this device's part of the batch.
        count: int, numbers for each picture.

    Returns:
        `(batch, count)` float32.
    """
    batch = ops.shape(pictures)[0]
    if keras.backend.backend() == "jax":
        import jax

        key = jax.random.fold_in(jax.random.key(seed), step)
        return jax.random.uniform(key, (batch, count))
    import tensorflow as tf

    replicas, replica = _replicas()
    seeds = [seed, ops.cast(step, "int32")]
    drawn = tf.random.stateless_uniform((replicas * batch, count), seeds)
    return drawn[replica * batch :][:batch]


def in_parts(function: Callable, batch: Sequence[Any], parts: int) -> tuple[list, Any]:
    """Sends a batch through a function in parts, one after the other.

    Args:
        function: from the tensors of a part to (list of tensors, structure of tensors with a row a
            picture). It may assign to Keras variables.
        batch: tensors with a row for each picture, their number a multiple of `parts`.
        parts: int >= 1.

    Returns:
        (the lists' tensors added up over the parts, the structures' joined to the whole batch).
    """
    if parts == 1:
        return function(*batch)
    # Each takes every `parts`-th picture, so that on JAX it is spread over all devices, as the
    # batch is.
    batch = [ops.swapaxes(ops.reshape(x, (-1, parts, *x.shape[1:])), 0, 1) for x in batch]
    loop = _jax_loop if keras.backend.backend() == "jax" else _tensorflow_loop
    sums, outputs = loop(function, batch, parts)

    def join(x):
        return ops.reshape(ops.swapaxes(x, 0, 1), (-1, *x.shape[2:]))

    return sums, keras.tree.map_structure(join, outputs)


def _tensorflow_loop(function, batch, parts):
    import tensorflow as tf

    sums, first = function(*(x[0] for x in batch))
    leaves = keras.tree.flatten(first)
    arrays = [tf.TensorArray(x.dtype, parts, element_shape=x.shape).write(0, x) for x in leaves]

    def body(i, sums, arrays):
        more, outputs = function(*(x[i] for x in batch))
        arrays = [a.write(i, x) for a, x in zip(arrays, keras.tree.flatten(outputs), strict=True)]
        return i + 1, [a + b for a, b in zip(sums, more, strict=True)], arrays

    start = (tf.constant(1), sums, arrays)
    # One part at a time: several would need the memory of several.
    _, sums, arrays = tf.while_loop(lambda i, *_: i < parts, body, start, parallel_iterations=1)
    return sums, keras.tree.pack_sequence_as(first, [array.stack() for array in arrays])


def _jax_loop(function, batch, parts):
    import jax

    scope, everything = _scopes[-1]

    def run(state, part):
        with _stateless(everything, state) as inner:
            sums, outputs = function(*part)
            return [inner.get_current_value(v) for v in everything], sums, outputs

    def body(carry, part):
        state, more, outputs = run(carry[0], part)
        return (state, [a + b for a, b in zip(carry[1], more, strict=True)]), outputs

    state = [scope.get_current_value(variable) for variable in everything]
    state, sums, first = run(state, [x[0] for x in batch])
    (state, sums), others = jax.lax.scan(body, (state, sums), [x[1:] for x in batch])
    for variable, value in zip(everything, state, strict=True):
        variable.assign(value)
    joined = jax.tree.map(lambda a, b: jax.numpy.concatenate([a[None], b]), first, others)
    return sums, joined


def _tensorflow_gradients(objective, optimizer, variables):
    import tensorflow as tf

    # Watching these alone keeps another network's update out of the tape, if one happens inside.
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        for variable in variables:
            tape.watch(variable.value)
        loss, outputs = objective()
        scaled_loss = optimizer.scale_loss(mean_over_devices(loss))
    return tape.gradient(scaled_loss, [variable.value for variable in variables]), outputs


def _jax_gradients(objective, optimizer, variables):
    import jax

    scope, everything = _scopes[-1]
    before = {id(variable): scope.get_current_value(variable) for variable in everything}

    def pure(values):
        now = before | {id(v): value for v, value in zip(variables, values, strict=True)}
        with _stateless(everything, [now[id(variable)] for variable in everything]) as inner:
            loss, outputs = objective()
            scaled_loss = optimizer.scale_loss(mean_over_devices(loss))
            after = [inner.get_current_value(variable) for variable in everything]
        return scaled_loss, (outputs, after)

    values = [before[id(variable)] for variable in variables]
    gradients, (outputs, after) = jax.grad(pure, has_aux=True)(values)
    for variable, value in zip(everything, after, strict=True):
        variable.assign(value)
    return gradients, outputs


def _jax_apply(optimizer, gradients, variables):
    """As `optimizer.apply`, which for a LossScaleOptimizer would assign inside `jax.lax.cond`."""
    before = [[v.value for v in group] for group in (optimizer.variables, variables)]
    after = optimizer.stateless_apply(before[0], gradients, before[1])
    changed = [*variables, *optimizer.variables]
    for variable, value in zip(changed, itertools.chain(*after), strict=True):
        variable.assign(value)


@contextlib.contextmanager
def unchanged(variables: list[keras.Variable]) -> Iterator[None]:
    """Gives variables back, at the end, the values that they have at the beginning."""
    values = [ops.copy(variable) for variable in variables]
    yield
    for variable, value in zip(variables, values, strict=True):
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


def stateless_on_jax(step: Callable) -> Callable:
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
