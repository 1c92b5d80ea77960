"""One turn of a node: what drives it, for real or in a virtual world, drives it by this.

What has happened is given to the node, the engine is committed if the node asks for it, and only
then the effects are done, in order.  So nothing that depends on durability is sent before it is
durable, and all that came together shares one commit.  What raises ends the turn: the effects that
have not been done then are never done, and the node is broken.
"""
from .events import Exit


def take_turn(node, happened, commit, do):
    """`happened` gives `(now, event)` in order; it may find out while it is asked.

    `commit()` makes durable what the engine was told; `do` is {kind of effect: function(effect)}.
    """
    step = node.step
    for now, event in happened:
        step(now, event)
    finish_turn(node, commit, do)


def finish_turn(node, commit, do):
    """Do what the node wants done, of what was called on it or happened to it."""
    batch = node.ready()
    if batch.commit:
        commit()
    for effect in batch.effects:
        kind = type(effect)
        do[kind](effect)
        if kind is Exit:
            return
