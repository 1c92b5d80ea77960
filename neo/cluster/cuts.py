"""What leads from one history of a cluster to the next: truncations, and starts that were forced
(docs/decisions/truncate.md, forced-start.md).  Plain functions of the cuts of a table."""

LEFT_OUT = ('the start of the cluster was forced without it, and its database ends with what was'
            ' before: to use it again, start it with an empty database')


def history_of(cuts, first):
    """The history of a cluster that was created with `first`."""
    return cuts[-1].history if cuts else first


def knows(cuts, first, history):
    """Is that the present history, or one of before?"""
    return history == history_of(cuts, first) or any(cut.former == history for cut in cuts)


def is_left_out(cuts, history, identity):
    """Was a start forced, since that history, without the node of that identity?"""
    return any(cut.kept and identity not in cut.kept for cut in since(cuts, history))


def since(cuts, history):
    """Those by which that history has ended, and all later ones."""
    return cuts[len(made(cuts, history)):]


def missed(cuts, history):
    """`(tid, last)`: who is of that history has to remove what is above `tid` and not above `last`
    to be of the present one, which may be nothing; None if it is."""
    cuts = since(cuts, history)
    return (min(it.tid for it in cuts), max(it.last for it in cuts)) if cuts else None


def made(cuts, history):
    """Those after which that history has come."""
    for number, cut in enumerate(cuts):
        if cut.former == history:
            return cuts[:number]
    return cuts


def is_removed(cuts, tid):
    """Was what had this tid removed?"""
    return any(cut.tid < tid <= cut.last for cut in cuts)


def forced(cuts):
    """The histories in which a start was forced."""
    return {cut.history for cut in cuts if cut.kept}


def kept_below(cuts, tid):
    """The lowest tid to which a copy has to be complete that should have this one: the tid itself,
    if no forced start has removed that."""
    return min([cut.tid for cut in cuts if cut.kept and cut.tid < tid <= cut.last], default=tid)
