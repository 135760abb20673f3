"""From the head downwards: what stands behind the layers, then layers from the top, at last the embeddings."""

from trainer.config.strategy import Ends, Layerwise
from trainer.parameter import Parameter
from trainer.strategy.layers import Layers, is_below
from trainer.strategy.phase import At, Model, Phase, of_list


def phases(settings: Layerwise, model: Model) -> At:
    """Groups without anything that trains are left out."""
    groups = _groups(settings, model)
    found: list[tuple[str, frozenset[str]]] = []
    for called, names in groups:
        held = names if settings.refreeze or not found else found[-1][1] | names
        found.append((called, held))
    if settings.refreeze and len(found) > 1:
        found.append(("all", frozenset[str]().union(*(names for _, names in groups))))
    last = len(found) - 1
    return of_list(
        [
            Phase(
                called,
                names,
                ends=Ends() if number == last else settings,
                until=None if settings.ends or number == last else (number + 1) / len(found),
            )
            for number, (called, names) in enumerate(found)
        ]
    )


def _groups(settings: Layerwise, model: Model) -> list[tuple[str, frozenset[str]]]:
    """What begins together, in the order in which it does."""
    layers = Layers(model.listed)
    parts: dict[int, list[Parameter]] = {}
    behind, below = [], []
    for one in model.listed:
        number = layers.of(one)
        if number is not None:
            parts.setdefault((len(layers) - 1 - number) // settings.each, []).append(one)
        elif is_below(one):
            below.append(one)
        else:
            behind.append(one)
    named = [("head", behind), *((_called(layers, parts[key]), parts[key]) for key in sorted(parts))]
    held = [(called, model.train(group)) for called, group in [*named, ("embeddings", below)]]
    # A head that is none of the model's own trains in every phase, so that a phase of its own has something.
    own = model.headed and not model.head
    return [(called, names) for called, names in held if names or (own and called == "head")]


def _called(layers: Layers, group: list[Parameter]) -> str:
    numbers = sorted({number for one in group if (number := layers.of(one)) is not None})
    return f"layer {numbers[0]}" if len(numbers) == 1 else f"layers {numbers[0]} to {numbers[-1]}"
